"""Truncated singular value decompositions of sparse matrices."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor


def right_singular_vectors(matrix: csr_matrix, num: int) -> Tensor:
    """Right singular vectors of the largest singular values, the largest first.

    Each vector's sign is such that its largest entry is positive. Always the same for the same
    matrix: Lanczos' iteration (ARPACK) starts from a fixed vector.

    Args:
        matrix: ``[U, I]``.
        num: Number of vectors d, at most ``min(U, I)``.

    Returns:
        Float32 ``[I, d]``, with columns of length one, on the CPU.
    """
    smaller = min(matrix.shape)
    if num < smaller:
        start = np.random.default_rng(0).standard_normal(smaller)
        _, value, vectors = svds(matrix.astype(float), k=num, v0=start)
        vectors = vectors[np.argsort(-value, kind="stable")]
    else:  # ARPACK cannot give all of them
        vectors = np.linalg.svd(matrix.toarray(), full_matrices=False)[2][:num]
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return torch.from_numpy((vectors * signs[:, None]).T.astype(np.float32))
