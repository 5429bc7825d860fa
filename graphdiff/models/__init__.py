"""Models, one a file, all with the face of :class:`~graphdiff.models.base.Recommender`."""

from graphdiff.models.base import BaseConfig, ModelConfig, Recommender, Tables
from graphdiff.models.bm3 import BM3
from graphdiff.models.bprmf import BPRMF
from graphdiff.models.contentknn import ContentKNN
from graphdiff.models.diffmm.model import DiffMM
from graphdiff.models.diffrec import DiffRec
from graphdiff.models.ease import EASE
from graphdiff.models.easefeatures import EASEFeatures
from graphdiff.models.freedom import FREEDOM
from graphdiff.models.gfcf import GFCF
from graphdiff.models.itemknn import ItemKNN
from graphdiff.models.lattice.model import LATTICE
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.models.ldiffrec.model import LDiffRec
from graphdiff.models.lgmrec import LGMRec
from graphdiff.models.lightgcn import LightGCN
from graphdiff.models.mgcn import MGCN
from graphdiff.models.mmssl.model import MMSSL
from graphdiff.models.multvae import MultVAE
from graphdiff.models.popularity import Popularity
from graphdiff.models.puresvd import PureSVD
from graphdiff.models.registry import MODELS, get_model
from graphdiff.models.simgcl import SimGCL
from graphdiff.models.slmrec import SLMRec
from graphdiff.models.smore import SMORE
from graphdiff.models.vbpr import VBPR

__all__ = [
    "BM3",
    "BPRMF",
    "EASE",
    "FREEDOM",
    "GFCF",
    "LATTICE",
    "MGCN",
    "MMSSL",
    "MODELS",
    "SMORE",
    "VBPR",
    "BaseConfig",
    "ContentKNN",
    "DiffMM",
    "DiffRec",
    "EASEFeatures",
    "ItemKNN",
    "LD4MRec",
    "LDiffRec",
    "LGMRec",
    "LightGCN",
    "ModelConfig",
    "MultVAE",
    "Popularity",
    "PureSVD",
    "Recommender",
    "SLMRec",
    "SimGCL",
    "Tables",
    "get_model",
]
