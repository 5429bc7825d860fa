"""Layer normalisation without the thread overhead of a one-row request."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to the variance.
EPSILON = 1e-5


def layer_norm(x: Tensor, eps: float = EPSILON) -> Tensor:
    """Normalise features ``[*, d]`` to mean zero and variance one in each row; no weights.

    :func:`torch.nn.functional.layer_norm` distributes even two rows over threads. A request of one
    user would spend most of its time waiting for them, on a busy machine until the second thread
    gets a core. Without gradients the same result is therefore composed of simple operations.

    Example:
        >>> layer_norm(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.0000,  1.0000]])
    """
    if torch.is_grad_enabled():
        return F.layer_norm(x, x.shape[-1:], eps=eps)
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (var + eps).rsqrt()
