"""The interaction matrix, scaled by the degrees, whose Gram matrix is the item-item graph."""

from __future__ import annotations

from scipy.sparse import csr_matrix, diags

from graphdiff.graph.store import RecGraph


def scaled_interactions(graph: RecGraph) -> csr_matrix:
    r"""Return :math:`R = D_U^{-1/4} X D_I^{-1/2}`, float64 ``[U, I]``.

    :math:`R^\top R` connects items that have users in common. The exponent of the users is that of
    GiffCF (`arXiv 2311.08744 <https://arxiv.org/abs/2311.08744>`_); it counts long histories more
    than the usual 1/2 does.

    Example:
        >>> import torch
        >>> graph = RecGraph(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
        >>> scaled_interactions(graph).toarray().round(3).tolist()
        [[0.841, 0.595], [0.0, 0.707]]
    """
    user, item = (
        diags(degree.clamp(min=1).double().pow(power).cpu().numpy())
        for degree, power in ((graph.user_degree(), -0.25), (graph.item_degree(), -0.5))
    )
    return (user @ graph.to_scipy() @ item).tocsr()
