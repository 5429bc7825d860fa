"""LATTICE and its learned item graph."""

from graphdiff.models.lattice.model import LATTICE

__all__ = ["LATTICE"]
