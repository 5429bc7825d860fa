"""Models, one a file, all with the face of :class:`~graphdiff.models.base.Recommender`."""

from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.models.bm3 import BM3
from graphdiff.models.diffmm import DiffMM
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.lightgcn import LightGCN
from graphdiff.models.mmssl import MMSSL
from graphdiff.models.registry import MODELS, get_model

__all__ = [
    "BM3",
    "FREEDOM",
    "MMSSL",
    "MODELS",
    "DiffMM",
    "LD4MRec",
    "LightGCN",
    "ModelConfig",
    "Recommender",
    "Tables",
    "get_model",
]
