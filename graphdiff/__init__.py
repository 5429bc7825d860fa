"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
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
    EASEFeatures,
    ItemKNN,
    LD4MRec,
    LGMRec,
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
    "EASEFeatures",
    "FitResult",
    "GraphDiffError",
    "ItemKNN",
    "LD4MRec",
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
    "evaluate",
    "fit",
]
