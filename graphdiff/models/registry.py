"""Names of models, for the command line, benchmarks and saved folders."""

from __future__ import annotations

from graphdiff.errors import ConfigError
from graphdiff.models.base import Recommender
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.lightgcn import LightGCN

#: All models, by the name they go by on the command line.
MODELS: dict[str, type[Recommender]] = {
    cls.__name__.lower(): cls for cls in (LD4MRec, LightGCN, FREEDOM)
}


def get_model(name: str) -> type[Recommender]:
    """The class of a model by its name, in any case.

    Raises:
        ConfigError: If there is no such model.
    """
    try:
        return MODELS[name.lower()]
    except KeyError:
        raise ConfigError(f"no model {name!r}; there are {', '.join(MODELS)}") from None
