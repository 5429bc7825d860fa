"""GenRec, its diffusion by flips and its layers for content."""

from graphdiff.models.genrec.model import GenRec

__all__ = ["GenRec"]
