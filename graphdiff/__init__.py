"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
from graphdiff.models import (
    BM3,
    FREEDOM,
    MMSSL,
    DiffMM,
    LD4MRec,
    LightGCN,
    Recommender,
)
from graphdiff.training import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "BM3",
    "FREEDOM",
    "MMSSL",
    "ConfigError",
    "DataError",
    "DiffMM",
    "FitResult",
    "GraphDiffError",
    "LD4MRec",
    "LightGCN",
    "Recommender",
    "RunError",
    "__version__",
    "evaluate",
    "fit",
]
