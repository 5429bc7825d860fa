"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
from graphdiff.models import (
    EASE,
    FREEDOM,
    GFCF,
    ContentKNN,
    EASEFeatures,
    ItemKNN,
    LD4MRec,
    LightGCN,
    Popularity,
    PureSVD,
    Recommender,
)
from graphdiff.training import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "EASE",
    "FREEDOM",
    "GFCF",
    "ConfigError",
    "ContentKNN",
    "DataError",
    "EASEFeatures",
    "FitResult",
    "GraphDiffError",
    "ItemKNN",
    "LD4MRec",
    "LightGCN",
    "Popularity",
    "PureSVD",
    "Recommender",
    "RunError",
    "__version__",
    "evaluate",
    "fit",
]
