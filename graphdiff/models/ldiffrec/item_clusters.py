"""Clustering of items by their users."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from scipy.cluster.vq import kmeans2
from scipy.sparse.linalg import svds
from torch import Tensor

from graphdiff.graph.store import RecGraph


def item_clusters(graph: RecGraph, num_clusters: int, channels: int = 64) -> Tensor:
    r"""Cluster items by deterministic k-means on truncated singular vectors.

    Items are the rows of :math:`V \Sigma` in :math:`\tilde{A} = U \Sigma V^\top`, the interaction
    matrix with entries :math:`1/\sqrt{|N_u||N_i|}`. The initial centres are means of equally many
    items, sorted along the first principal direction, so no random numbers are used.

    Args:
        graph: Training interactions.
        num_clusters: Maximum number of clusters C.
        channels: Number of singular vectors.

    Returns:
        Cluster of each item, long ``[I]``, 0 … C - 1. Empty clusters are removed and the others
        renumbered.
    """
    if num_clusters == 1:
        return torch.zeros_like(graph.item_degree())
    points = _singular_vectors(graph, channels)
    centred = points - points.mean(axis=0)
    _, direction = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(centred @ direction[:, -1], kind="stable")
    chunks = np.array_split(order, min(num_clusters, len(order)))
    centres = np.stack([points[chunk].mean(axis=0) for chunk in chunks])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        _, label = kmeans2(points, centres, iter=50, minit="matrix")
    _, label = np.unique(label, return_inverse=True)
    return torch.from_numpy(label).long().to(graph.col.device)


def _singular_vectors(graph: RecGraph, channels: int) -> np.ndarray:
    user, item = graph.user.cpu(), graph.col.cpu()
    degree = graph.user_degree().cpu()[user] * graph.item_degree().cpu()[item]
    shape = (graph.num_users, graph.num_items)
    matrix = sp.csr_matrix((degree.double().rsqrt().numpy(), (user.numpy(), item.numpy())), shape)
    if min(shape) <= channels:  # ARPACK cannot compute all singular vectors.
        _, sigma, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    else:
        _, sigma, right = svds(matrix, k=channels, v0=np.ones(min(shape)))
    return right.T * sigma
