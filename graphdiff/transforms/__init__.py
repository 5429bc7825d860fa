"""PyG transforms that prepare a graph for the models."""

from graphdiff.transforms.modality_graph import ModalityGraph

__all__ = ["ModalityGraph"]
