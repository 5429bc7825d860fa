"""graphdiff: multimodal recommendation by light diffusion, on PyTorch Geometric."""

from importlib.metadata import version

from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.evaluation import evaluate
from graphdiff.models import FREEDOM, MGCN, SMORE, LD4MRec, LGMRec, LightGCN, Recommender
from graphdiff.training import FitResult, fit

__version__ = version("graphdiff")

__all__ = [
    "FREEDOM",
    "MGCN",
    "SMORE",
    "ConfigError",
    "DataError",
    "FitResult",
    "GraphDiffError",
    "LD4MRec",
    "LGMRec",
    "LightGCN",
    "Recommender",
    "RunError",
    "__version__",
    "evaluate",
    "fit",
]
