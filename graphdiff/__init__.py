"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
from graphdiff.models import (
    BPRMF,
    EASE,
    FREEDOM,
    GFCF,
    LATTICE,
    VBPR,
    ContentKNN,
    EASEFeatures,
    ItemKNN,
    LD4MRec,
    LightGCN,
    MultVAE,
    Popularity,
    PureSVD,
    Recommender,
    SimGCL,
    SLMRec,
)
from graphdiff.training import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "BPRMF",
    "EASE",
    "FREEDOM",
    "GFCF",
    "LATTICE",
    "VBPR",
    "ConfigError",
    "ContentKNN",
    "DataError",
    "EASEFeatures",
    "FitResult",
    "GraphDiffError",
    "ItemKNN",
    "LD4MRec",
    "LightGCN",
    "MultVAE",
    "Popularity",
    "PureSVD",
    "Recommender",
    "RunError",
    "SLMRec",
    "SimGCL",
    "__version__",
    "evaluate",
    "fit",
]
