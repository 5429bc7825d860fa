"""Layer normalisation that a request of one person does not wait for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to a variance.
EPSILON = 1e-5


def layer_norm(x: Tensor, eps: float = EPSILON) -> Tensor:
    """Features ``[*, d]`` with mean zero and variance one in each row; no weights.

    :func:`torch.nn.functional.layer_norm` shares even two rows out among threads. A request of one
    person would wait for them longer than for everything else, and on a busy machine until the
    second thread is given a core. So, where no gradient is asked for, the same is composed.
    """
    if torch.is_grad_enabled():
        return F.layer_norm(x, x.shape[-1:], eps=eps)
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (var + eps).rsqrt()
