"""Datasets: each is a PyG ``InMemoryDataset`` whose ``[0]`` is one ``HeteroData``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.convert import to_parquet
from graphdiff.datasets.io.archives import extract
from graphdiff.datasets.layouts.diffmm import DiffMM
from graphdiff.datasets.layouts.log import InteractionLog, from_frame
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.datasets.layouts.mmrec import MMRec
from graphdiff.datasets.layouts.pairs import PairLists, read_pair_lists
from graphdiff.datasets.layouts.recbole import RecBole
from graphdiff.datasets.published.movielens import MovieLens1M
from graphdiff.datasets.published.synthetic import SyntheticMultimedia, true_preference
from graphdiff.datasets.published.tiktok import TikTok
from graphdiff.errors import ConfigError, DataError

__all__ = [
    "LAYOUTS",
    "REGISTRY",
    "DiffMM",
    "InteractionLog",
    "LogSettings",
    "MMRec",
    "MovieLens1M",
    "PairLists",
    "RecBole",
    "RecDataset",
    "SyntheticMultimedia",
    "TikTok",
    "extract",
    "from_frame",
    "load",
    "read_pair_lists",
    "to_parquet",
    "true_preference",
]

#: Layouts by name: any dataset that comes in one of them can be read.
LAYOUTS: dict[str, type[RecDataset]] = {
    "csv": InteractionLog,
    "diffmm": DiffMM,
    "mmrec": MMRec,
    "pairs": PairLists,
    "parquet": InteractionLog,
    "recbole": RecBole,
}

#: Datasets by the name under which the command line knows them. One that is published in one of the
#: layouts is a name and a card, no class of its own.
REGISTRY: dict[str, type[RecDataset]] = {
    **LAYOUTS,
    "allrecipes": DiffMM,
    "baby": MMRec,
    "clothing": MMRec,
    "electronics": MMRec,
    "hm": InteractionLog,
    "microlens": MMRec,
    "ml-1m-clean": MovieLens1M,
    "ml-1m-noisy": MovieLens1M,
    "sports": MMRec,
    "synthetic": SyntheticMultimedia,
    "tiktok": TikTok,
    "tmall": InteractionLog,
}

#: Arguments that a name stands for, beside its class.
_MEANT: dict[str, dict[str, Any]] = {
    "ml-1m-clean": {"variant": "clean"},
    "ml-1m-noisy": {"variant": "noisy"},
}


def load(name: str, root: str | Path | None = None, **kwargs: Any) -> RecDataset:
    """Opens a dataset by name.

    Args:
        name: A key of :data:`REGISTRY`, in any case.
        root: Folder of the dataset; one that is made rather than read needs none.
        **kwargs: Further arguments of the dataset's class, such as ``transform``.

    Returns:
        The dataset; its graph is ``load(name)[0]``.

    Raises:
        ConfigError: If there is no such dataset.
        DataError: If ``root`` is needed and missing, or what is there cannot be read.
    """
    dataset = REGISTRY.get(name.lower())
    if dataset is None:
        raise ConfigError(f"there is no dataset {name!r}; there are {', '.join(sorted(REGISTRY))}")
    if dataset.needs_root and root is None:
        raise DataError(
            f"the dataset {name!r} is read from files; give the folder that holds them (root, or "
            "--root on the command line)"
        )
    meant = _MEANT.get(name.lower(), {})
    parameters = inspect.signature(dataset).parameters
    known = set(parameters) - set(meant)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name_ in kwargs:
        if name_ not in known and not takes_any:  # Otherwise the class itself knows.
            raise ConfigError(f"the dataset {name!r} takes no argument {name_!r}")
    return dataset(root=root, **meant, **kwargs)
