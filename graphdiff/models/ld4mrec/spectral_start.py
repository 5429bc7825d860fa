"""Item embeddings to start training from: a truncated SVD of the interactions."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from graphdiff.graph.store import RecGraph

#: Largest number of interactions that are decomposed; beyond it, memory and time are not worth it.
LARGEST = 4_000_000
#: Standard deviation of the embeddings at the start, random ones included.
DEVIATION = 0.1


def spectral_start(graph: RecGraph, channels: int, generator: torch.Generator) -> Tensor | None:
    r"""Return item embeddings that hold the collaborative signal before the first step,

    .. math::
        E = c\, V_k \Sigma_k^{1/2} R, \qquad
        \tilde{A} \approx U_k \Sigma_k V_k^\top, \qquad
        \tilde{A}_{ui} = 1 / \sqrt{|N_u||N_i|},

    with a random rotation R, so that each head gets a part of all directions, and c such that their
    standard deviation is :data:`DEVIATION`. The LD4MRec paper encodes the collaborative signal by
    a truncated SVD; to start the embeddings from it is ours.

    Args:
        graph: Training interactions.
        channels: Width d; k is d, or less on a small matrix.
        generator: Source of the rotation, on the graph's device.

    Returns:
        ``[I, d]``, zero for items without interactions; None where there are no interactions or
        more than :data:`LARGEST`.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 2, 3]), num_items=5)
        >>> e = spectral_start(graph, channels=4, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(e[0], e[1]), torch.allclose(e[0], e[2]), e[4].tolist()
        (True, False, [0.0, 0.0, 0.0, 0.0])
    """
    if not 0 < graph.num_interactions <= LARGEST:
        return None
    matrix = graph.to_normalized_scipy()
    # In double precision, so that directions do not depend on the number of threads.
    num = min(channels, *matrix.shape)
    _, value, vectors = randomized_svd(matrix, num, n_iter=4, random_state=0)
    scaled = torch.from_numpy(vectors.T * np.sqrt(value)).to(graph.col.device)
    noise = torch.randn(channels, channels, generator=generator, device=scaled.device)
    rotation = torch.linalg.qr(noise.to(scaled.dtype)).Q
    table = scaled @ rotation[:num]
    return table * (DEVIATION / table.std().clamp(min=torch.finfo(table.dtype).tiny))
