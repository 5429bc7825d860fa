"""Small models and batches of new interactions for tests of updates."""

import pandas as pd
import torch

from graphdiff import LD4MRec
from tests.conftest import random_data

WIDTHS = {"image": 6, "text": 5}
SETTINGS = {
    "hidden_channels": 8,
    "num_neighbors": 3,
    "batch_size": 16,
    "objective.num_negatives": 16,
}


def trained(ids=True, num_users=30, num_items=25, **settings):
    """A model with weights that are not those of the start, and raw ids if ``ids``."""
    data = random_data(num_users, num_items, WIDTHS, density=0.2)
    torch.manual_seed(0)
    model = LD4MRec.from_data(data, **{**SETTINGS, **settings}).eval()
    model.start_epoch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    if ids:
        model.catalogue.user_ids = [f"u{n}" for n in range(num_users)]
        model.catalogue.item_ids = [f"i{n}" for n in range(num_items)]
    return model


def frame(*pairs):
    return pd.DataFrame(pairs, columns=["user", "item"])


def interactions(model):
    """The pairs of a model's graph, by raw id."""
    graph, catalogue = model.graph, model.catalogue
    return {
        (catalogue.user_id(u), catalogue.item_id(i))
        for u, i in zip(graph.user.tolist(), graph.col.tolist(), strict=True)
    }


def contents(model):
    """All tensors of a model, as bytes, with its ids."""
    state = {name: t.numpy().tobytes() for name, t in model.state_dict().items()}
    return {**state, "users": model.catalogue.user_ids, "items": model.catalogue.item_ids}


#: Two new users and two new items, one of which has an image; and pairs of what is known.
NEW = frame(("u1", "i2"), ("new user", "i3"), ("u2", "new item"), ("other user", "bare item"))
FEATURES = {"image": (["new item", "i3"], torch.arange(12.0).reshape(2, 6))}
