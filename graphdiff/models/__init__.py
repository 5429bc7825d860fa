"""Models, one a file, all with the face of :class:`~graphdiff.models.base.Recommender`."""

from graphdiff.models.base import ModelConfig, Recommender, Tables
from graphdiff.models.bprmf import BPRMF
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.lattice import LATTICE
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.lightgcn import LightGCN
from graphdiff.models.multvae import MultVAE
from graphdiff.models.registry import MODELS, get_model
from graphdiff.models.simgcl import SimGCL
from graphdiff.models.slmrec import SLMRec
from graphdiff.models.vbpr import VBPR

__all__ = [
    "BPRMF",
    "FREEDOM",
    "LATTICE",
    "MODELS",
    "VBPR",
    "LD4MRec",
    "LightGCN",
    "ModelConfig",
    "MultVAE",
    "Recommender",
    "SLMRec",
    "SimGCL",
    "Tables",
    "get_model",
]
