"""Public names of ``graphdiff``; ``__init__.py`` reads them from here."""

from . import datasets as datasets
from . import evaluation as evaluation
from . import experiments as experiments
from . import models as models
from . import nn as nn
from . import serving as serving
from . import training as training
from . import transforms as transforms
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import GraphDiffError as GraphDiffError
from .errors import RunError as RunError
from .evaluation.ranking import evaluate as evaluate
from .experiments.compare import compare as compare
from .models.base import Recommender as Recommender
from .models.bm3 import BM3 as BM3
from .models.bprmf import BPRMF as BPRMF
from .models.contentknn import ContentKNN as ContentKNN
from .models.diffmm.model import DiffMM as DiffMM
from .models.diffrec import DiffRec as DiffRec
from .models.ease import EASE as EASE
from .models.easefeatures import EASEFeatures as EASEFeatures
from .models.freedom import FREEDOM as FREEDOM
from .models.gfcf import GFCF as GFCF
from .models.giffcf import GiffCF as GiffCF
from .models.itemknn import ItemKNN as ItemKNN
from .models.lattice.model import LATTICE as LATTICE
from .models.ld4mrec.model import LD4MRec as LD4MRec
from .models.ldiffrec.model import LDiffRec as LDiffRec
from .models.lgmrec import LGMRec as LGMRec
from .models.lightgcn import LightGCN as LightGCN
from .models.mgcn import MGCN as MGCN
from .models.mmssl.model import MMSSL as MMSSL
from .models.multvae import MultVAE as MultVAE
from .models.popularity import Popularity as Popularity
from .models.puresvd import PureSVD as PureSVD
from .models.simgcl import SimGCL as SimGCL
from .models.slmrec import SLMRec as SLMRec
from .models.smore import SMORE as SMORE
from .models.vbpr import VBPR as VBPR
from .training.fit import FitResult as FitResult
from .training.fit import fit as fit

__version__: str
