"""Trained models in production: exported programs, an index, and an HTTP service."""

from graphdiff.serving.index import RetrievalIndex

__all__ = ["RetrievalIndex"]
