"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
from graphdiff.models import (
    BPRMF,
    FREEDOM,
    LATTICE,
    VBPR,
    LD4MRec,
    LightGCN,
    MultVAE,
    Recommender,
    SimGCL,
    SLMRec,
)
from graphdiff.training import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "BPRMF",
    "FREEDOM",
    "LATTICE",
    "VBPR",
    "ConfigError",
    "DataError",
    "FitResult",
    "GraphDiffError",
    "LD4MRec",
    "LightGCN",
    "MultVAE",
    "Recommender",
    "RunError",
    "SLMRec",
    "SimGCL",
    "__version__",
    "evaluate",
    "fit",
]
