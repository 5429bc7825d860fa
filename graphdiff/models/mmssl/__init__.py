"""MMSSL and its adversary."""

from graphdiff.models.mmssl.model import MMSSL

__all__ = ["MMSSL"]
