"""Models, one a file, all with the face of :class:`~graphdiff.models.base.Recommender`."""

from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.lgmrec import LGMRec
from graphdiff.models.lightgcn import LightGCN
from graphdiff.models.mgcn import MGCN
from graphdiff.models.registry import MODELS, get_model
from graphdiff.models.smore import SMORE

__all__ = [
    "FREEDOM",
    "MGCN",
    "MODELS",
    "SMORE",
    "LD4MRec",
    "LGMRec",
    "LightGCN",
    "ModelConfig",
    "Recommender",
    "Tables",
    "get_model",
]
