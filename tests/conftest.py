"""Shared fixtures."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from graphdiff.models import MODELS, Recommender
from graphdiff.schema import build_data

#: Models trained by gradient descent, and models in closed form.
TRAINED = {name: cls for name, cls in MODELS.items() if cls.batch_over != "nothing"}
SOLVED = {name: cls for name, cls in MODELS.items() if cls.batch_over == "nothing"}


def random_data(
    num_users: int = 12,
    num_items: int = 9,
    features: dict[str, int] | None = None,
    seed: int = 0,
    density: float = 0.3,
) -> HeteroData:
    """Return a random valid graph: every user has at least one training, validation and test item,
    and the last item has no training interaction."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(num_users, num_items, generator=generator)
    score[:, -1] = 0
    order = score.argsort(dim=1, descending=True)
    everyone = torch.arange(num_users)
    val = torch.stack([everyone, order[:, 0]])
    test = torch.stack([everyone, order[:, 1]])
    observed = score > 1 - density
    observed[everyone, order[:, 2]] = True
    observed[val[0], val[1]] = observed[test[0], test[1]] = False
    return build_data(
        num_users,
        num_items,
        observed.nonzero().t().contiguous(),
        val,
        test,
        {
            name: torch.randn(num_items, width, generator=generator)
            for name, width in (features or {}).items()
        },
    )


def make_model(
    model_class: type[Recommender], data: HeteroData, seed: int = 0, **settings: Any
) -> Recommender:
    """Return a small model that can recommend: with random weights, or solved if in closed form.

    ``hidden_channels`` is 8 unless given, for models with that setting.
    """
    torch.manual_seed(seed)
    settings = {"hidden_channels": 8, **settings}
    if "hidden_channels" not in model_class.Config.model_fields:
        del settings["hidden_channels"]
    model = model_class.from_data(data, **settings)
    if model.batch_over == "nothing":
        model.solve()
    return model


@pytest.fixture
def plain_data() -> HeteroData:
    """Interactions only."""
    return random_data()


@pytest.fixture
def multimodal_data() -> HeteroData:
    """Interactions, an image and a text feature; item 3 has no image."""
    data = random_data(features={"image": 6, "text": 5})
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    return data


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of real datasets, from ``GRAPHDIFF_DATA``."""
    root = os.environ.get("GRAPHDIFF_DATA")
    if not root:
        pytest.skip("GRAPHDIFF_DATA is not set; point it at the folder of real datasets")
    return Path(root).resolve()
