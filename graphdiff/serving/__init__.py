"""A trained model put to work: exported, indexed, or behind HTTP."""

from graphdiff.serving.index import RetrievalIndex

__all__ = ["RetrievalIndex"]
