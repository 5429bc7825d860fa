"""LD4MRec and the parts that it alone uses."""

from graphdiff.models.ld4mrec.model import LD4MRec, LD4MRecConfig

__all__ = ["LD4MRec", "LD4MRecConfig"]
