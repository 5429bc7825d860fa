"""L-DiffRec and its autoencoder."""

from graphdiff.models.ldiffrec.model import LDiffRec

__all__ = ["LDiffRec"]
