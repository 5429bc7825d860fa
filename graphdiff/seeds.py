"""Seeds: any non-negative integer, as a number that PyTorch's generators accept."""

from __future__ import annotations

import hashlib
import operator
from typing import Any

from graphdiff.errors import ConfigError

# Seeds below this bound are used as they are.
LARGEST_PLAIN_SEED = 2**32


def as_seed(value: Any) -> int:
    """Return a seed as a Python integer.

    Args:
        value: Any non-negative integer, of Python, NumPy or a 0-dimensional integer tensor.

    Raises:
        ConfigError: If ``value`` is not a non-negative integer.
    """
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if seed < 0 or isinstance(value, bool):
        raise ConfigError(f"seed is {value!r}; give a non-negative integer, such as 0")
    return seed


def torch_seed(seed: int) -> int:
    """Return the 64-bit seed that stands for ``seed`` in ``torch.Generator.manual_seed``.

    Seeds below 2^32 stand for themselves. A larger one is hashed (SHA-256), so that integers of
    any size can be used and equal ones give equal random numbers.
    """
    seed = as_seed(seed)
    if seed < LARGEST_PLAIN_SEED:
        return seed
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big")
