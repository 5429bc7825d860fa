"""Every model that reads content stays finite for features of any magnitude that is allowed."""

import pytest
import torch

from graphdiff.models import MODELS
from tests.conftest import random_data


def mixed(x):
    x[:, 0] *= 1e14
    x[:, 1] *= 1e-30
    x[3] *= 1e-14
    x[4] = 0
    return x


SCALES = {
    "1e-44": lambda x: x * 1e-44,
    "1e-25": lambda x: x * 1e-25,
    "1e12": lambda x: x * 1e12,
    "signs of 1e15": lambda x: x.sign() * 1e15,
    "mixed": mixed,
    "one value": lambda x: torch.full_like(x, 1e15),
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", sorted(name for name in MODELS if MODELS[name].uses_content))
def test_kind_h_features_of_any_allowed_size(name, scale):
    data = random_data(30, 20, {"image": 6})
    data["item"].x_image = SCALES[scale](data["item"].x_image)
    model_class = MODELS[name]
    small = {"hidden_channels": 8} if "hidden_channels" in model_class.Config.model_fields else {}
    torch.manual_seed(0)
    model = model_class.from_data(data, **small)
    if model.batch_over == "nothing":
        model.solve()
    else:
        train(model)
    for key, value in model.state_dict().items():
        assert not value.is_floating_point() or value.isfinite().all(), key
    items, scores = model.recommend(list(range(30)), k=3)
    assert scores[items >= 0].isfinite().all()


def train(model):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=1e-3)
    model.start_epoch(generator)
    model.train()
    for _ in range(2):
        loss = model.loss(torch.arange(12), generator)
        optimizer.zero_grad()
        loss.backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), key
        optimizer.step()
        assert loss.isfinite()
