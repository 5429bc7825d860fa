"""The graph of users and items: rows of interactions, message passing, neighbours."""

from graphdiff.graph.propagation import FixedConv, FixedGraph
from graphdiff.graph.store import RecGraph, Rows

__all__ = ["FixedConv", "FixedGraph", "RecGraph", "Rows"]
