"""SLMRec against its paper's equations in plain torch, channel by channel."""

import pytest
import torch

from graphdiff import SLMRec
from graphdiff.errors import ConfigError
from tests.conftest import random_data
from tests.models.test_lightgcn import dense_adjacency
from tests.models.test_simgcl import dense_contrast


def make(data, **settings):
    torch.manual_seed(0)
    return SLMRec.from_data(data, **{"hidden_channels": 4, "num_layers": 2, **settings})


def dense_channels(model, data, masked=None, drop=None):
    """Return the propagated users and items; ``drop[l]`` ``[N, 3 d]`` multiplies layer l."""
    inputs = [model.item_embedding.weight]
    for name in ("image", "text"):
        x, has = data["item"][f"x_{name}"], data["item"][f"has_{name}"]
        layer = model.project[name]
        q = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) @ layer.weight.t() + layer.bias
        inputs.append(torch.where(has[:, None], q, 0))
    adjacency, d = dense_adjacency(model), model.config.hidden_channels
    out = []
    for number, q in enumerate(inputs):
        x = torch.cat([model.user_embedding.weight, q * (number != masked)])
        layers = [x]
        for hop in range(model.config.num_layers):
            x = adjacency @ x
            if drop is not None:
                x = x * drop[hop][:, number * d : (number + 1) * d]
            layers.append(x)
        out.append(torch.stack(layers).mean(dim=0).split([12, 9]))
    return out


def dense_fuse(model, channels):
    users, items = (torch.cat(part, dim=1) for part in zip(*channels, strict=True))
    return (
        users @ model.fuse_users.weight.t() + model.fuse_users.bias,
        items @ model.fuse_items.weight.t() + model.fuse_items.bias,
    )


def dense_main(model, data, user, item):
    users, items = dense_fuse(model, dense_channels(model, data))
    return dense_contrast(users[user], items[item], model.config.temperature)


@pytest.fixture
def data():
    """Return a larger dataset; item 3 has no image."""
    data = random_data(features={"image": 6, "text": 5}, density=0.6)
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    return data


@pytest.fixture
def batch():
    return torch.tensor([0, 3, 4, 9, 15, 21])


def test_scores_follow_the_paper(data):
    model = make(data)
    users, items = dense_fuse(model, dense_channels(model, data))
    torch.testing.assert_close(model(torch.arange(12)), users @ items.t())


def test_fine_and_coarse_follow_the_paper(data, batch):
    model = make(data, contrast=0.6, contrast_temperature=0.3)
    user, item = model.graph.user[batch], model.graph.col[batch]
    assert 3 in item, "the batch is to hold the item without an image"
    loss = model.loss(batch, torch.Generator())
    (_, ids), *others = dense_channels(model, data)
    expected, s = dense_main(model, data, user, item), ids
    for number, (name, (_, z)) in enumerate(zip(("image", "text"), others, strict=True)):
        s = model.to_next[number](s)
        rows = item[data["item"][f"has_{name}"][item]]
        logit = s[rows] @ model.to_space[number](z)[rows].t() / 0.3
        expected = expected - 0.6 * logit.log_softmax(dim=1).diag().mean()
    torch.testing.assert_close(loss, expected)
    assert [space.out_features for space in model.to_space] == [4, 2]


def kept(generator, rate, model):
    shape = (21, 3 * model.config.hidden_channels)
    return [
        (torch.rand(shape, generator=generator) < 1 - rate) / (1 - rate)
        for _ in range(model.config.num_layers)
    ]


@pytest.mark.parametrize("task", ["FD", "FM", "FD+FM"])
def test_views_follow_the_paper(data, batch, task):
    model = make(data, task=task, contrast=0.6, contrast_temperature=0.3, dropout=0.25)
    user, item = model.graph.user[batch], model.graph.col[batch]
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    masked = [None, None]
    if "FM" in task:
        masked = torch.randperm(3, generator=generator)[:2].tolist()
    views = []
    for channel in masked:
        drop = kept(generator, 0.25, model) if "FD" in task else None
        views.append(dense_fuse(model, dense_channels(model, data, channel, drop)))
    (users, items), (other_users, other_items) = views
    expected = dense_main(model, data, user, item)
    expected = expected + 0.6 * dense_contrast(users[user], other_users[user], 0.3)
    expected = expected + 0.6 * dense_contrast(items[item], other_items[item], 0.3)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("task", ["FD", "FM", "FD+FM"])
def test_every_task_trains_every_parameter(data, task):
    model = make(data, task=task)
    model.loss(torch.arange(20), torch.Generator().manual_seed(0)).backward()
    assert all(p.grad.any() for p in model.parameters())


def test_without_contrast_only_the_main_task_remains(data, batch):
    model = make(data, contrast=0.0)
    user, item = model.graph.user[batch], model.graph.col[batch]
    loss = model.loss(batch, torch.Generator())
    torch.testing.assert_close(loss, dense_main(model, data, user, item))


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="SLMRec needs at least one modality"):
        SLMRec.from_data(plain_data)
