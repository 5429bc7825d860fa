"""LD4MRec and its parts."""

from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.model import LD4MRec

__all__ = ["LD4MRec", "LD4MRecConfig"]
