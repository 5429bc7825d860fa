"""MMSSL and its adversarial part."""

from graphdiff.models.mmssl.model import MMSSL

__all__ = ["MMSSL"]
