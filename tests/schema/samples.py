"""Arguments of a small graph."""

import numpy as np


def arguments(**changes):
    """Arguments of a graph of 3 users and 4 items, with some of them changed."""
    return {
        "num_users": 3,
        "num_items": 4,
        "train": [[0, 0, 1], [0, 1, 2]],
        "val": [[1], [0]],
        "test": [[2], [1]],
        "features": {"image": np.arange(8.0).reshape(4, 2), "audio": np.ones((4, 3))},
    } | changes
