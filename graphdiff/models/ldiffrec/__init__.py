"""L-DiffRec and its cluster-wise autoencoder."""

from graphdiff.models.ldiffrec.model import LDiffRec

__all__ = ["LDiffRec"]
