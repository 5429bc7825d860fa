"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError

if TYPE_CHECKING:
    from graphdiff.evaluation.ranking import evaluate
    from graphdiff.experiments.compare import compare
    from graphdiff.models import (
        BM3,
        BPRMF,
        EASE,
        FREEDOM,
        GFCF,
        LATTICE,
        MGCN,
        MMSSL,
        SMORE,
        VBPR,
        ContentKNN,
        DiffMM,
        DiffRec,
        EASEFeatures,
        ItemKNN,
        LD4MRec,
        LDiffRec,
        LGMRec,
        LightGCN,
        MultVAE,
        Popularity,
        PureSVD,
        Recommender,
        SimGCL,
        SLMRec,
    )
    from graphdiff.training.fit import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "BM3",
    "BPRMF",
    "EASE",
    "FREEDOM",
    "GFCF",
    "LATTICE",
    "MGCN",
    "MMSSL",
    "SMORE",
    "VBPR",
    "ConfigError",
    "ContentKNN",
    "DataError",
    "DiffMM",
    "DiffRec",
    "EASEFeatures",
    "FitResult",
    "GraphDiffError",
    "ItemKNN",
    "LD4MRec",
    "LDiffRec",
    "LGMRec",
    "LightGCN",
    "MultVAE",
    "Popularity",
    "PureSVD",
    "Recommender",
    "RunError",
    "SLMRec",
    "SimGCL",
    "__version__",
    "compare",
    "evaluate",
    "fit",
]

#: Where a public name is defined, if not among the models.
_HOMES = {
    "compare": "graphdiff.experiments.compare",
    "evaluate": "graphdiff.evaluation.ranking",
    "FitResult": "graphdiff.training.fit",
    "fit": "graphdiff.training.fit",
}


def __getattr__(name: str) -> Any:
    # On first use: PyTorch and its companions take seconds to import, for which nobody should wait
    # who asks the command line for help.
    if name in __all__:
        value = getattr(import_module(_HOMES.get(name, "graphdiff.models")), name)
        globals()[name] = value
        return value
    if name in ("datasets", "experiments", "models", "nn", "serving", "transforms"):
        return import_module(f"graphdiff.{name}")
    raise AttributeError(f"module 'graphdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
