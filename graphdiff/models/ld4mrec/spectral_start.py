"""Item embeddings to start training from: a truncated SVD of the interactions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.graph.streamed_messages import StreamedRoundTrip

#: Largest number of interactions that are decomposed as a matrix in memory; beyond it, by power
#: iteration over blocks of them.
LARGEST = 4_000_000
#: Power iterations, and vectors beyond those that are needed.
ITERATIONS, OVERSAMPLING = 4, 10
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
        ``[I, d]``, zero for items without interactions; None where there are no interactions, or
        more than :data:`LARGEST` on another device than a CPU.

    Example:
        >>> graph = RecGraph(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 2, 3]), num_items=5)
        >>> e = spectral_start(graph, channels=4, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(e[0], e[1]), torch.allclose(e[0], e[2]), e[4].tolist()
        (True, False, [0.0, 0.0, 0.0, 0.0])
    """
    if graph.num_interactions == 0:
        return None
    # Takes half a second, which models without this start should not wait for.
    from sklearn.utils.extmath import randomized_svd

    num = min(channels, graph.num_users, graph.num_items)
    if graph.num_interactions <= LARGEST:
        # In double precision, so that directions do not depend on the number of threads.
        matrix = graph.to_normalized_scipy()
        _, value, vectors = randomized_svd(matrix, num, n_iter=ITERATIONS, random_state=0)
        scaled = torch.from_numpy(vectors.T * np.sqrt(value)).to(graph.col.device)
    elif graph.col.device.type == "cpu":
        value, vectors = streamed_svd(graph, num)
        scaled = vectors * value.sqrt()
    else:
        return None
    noise = torch.randn(channels, channels, generator=generator, device=scaled.device)
    rotation = torch.linalg.qr(noise.to(scaled.dtype)).Q
    table = scaled @ rotation[:num]
    return table * (DEVIATION / table.std().clamp(min=torch.finfo(table.dtype).tiny))


def streamed_svd(graph: RecGraph, num: int) -> tuple[Tensor, Tensor]:
    r"""Return the largest singular values of :math:`\tilde{A}` and their right singular vectors.

    Randomised subspace iteration (Halko et al., arXiv 0909.4061, algorithm 4.4) with
    :math:`\tilde{A}^\top \tilde{A}`, which reads the interactions block by block.

    Args:
        graph: Training interactions, on the CPU.
        num: Number of values, at most the number of users and of items.

    Returns:
        Values, descending, float32 ``[num]``, and vectors ``[I, num]``.
    """
    trip = StreamedRoundTrip(graph)
    width = min(num + OVERSAMPLING, graph.num_users, graph.num_items)
    # The same interactions give the same directions, whatever was drawn before.
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(graph.num_items, width, generator=generator)
    for _ in range(ITERATIONS + 1):
        basis = torch.linalg.qr(trip(basis)).Q
    square, vector = torch.linalg.eigh((basis.T @ trip(basis)).double())
    order = square.argsort(descending=True)[:num]
    return square[order].clamp(min=0).sqrt().float(), basis @ vector[:, order].float()
