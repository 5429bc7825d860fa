"""Models, one a file, all with the face of :class:`~graphdiff.models.base.Recommender`."""

from graphdiff.models.base import BaseConfig, ModelConfig, Recommender, Tables
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.lightgcn import LightGCN
from graphdiff.models.registry import MODELS, get_model

__all__ = [
    "FREEDOM",
    "MODELS",
    "BaseConfig",
    "LD4MRec",
    "LightGCN",
    "ModelConfig",
    "Recommender",
    "Tables",
    "get_model",
]
