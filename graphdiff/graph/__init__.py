"""Training interactions and item content: rows, message graphs, negatives and neighbours."""

from graphdiff.graph.item_similarity import similar_items
from graphdiff.graph.message_graphs import (
    item_to_user_graph,
    item_to_user_graph_without,
    sample_by_degree,
    similarity_graph,
    strongest_similarity_graph,
    user_item_graph,
)
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv, FixedGraph
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph

__all__ = [
    "FixedConv",
    "FixedGraph",
    "RecGraph",
    "Rows",
    "item_to_user_graph",
    "item_to_user_graph_without",
    "sample_by_degree",
    "sample_negatives",
    "similar_items",
    "similarity_graph",
    "strongest_similarity_graph",
    "user_item_graph",
]
