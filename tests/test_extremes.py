"""Extreme data: models give finite results or a clear error."""

import pytest
import torch

from graphdiff import FREEDOM, LD4MRec, LightGCN, fit
from graphdiff.datasets.io.safe_npy import load_features
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import build_data

NUM_USERS, NUM_ITEMS = 30, 25


def randn(*size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


def usual(image, num_items=NUM_ITEMS):
    """Return four training items per user, one for validation and one for test."""
    score = torch.rand(NUM_USERS, num_items, generator=torch.Generator().manual_seed(1))
    order, user = score.argsort(dim=1), torch.arange(NUM_USERS)
    train = torch.stack([user.repeat_interleave(4), order[:, 2:6].flatten()])
    val, test = torch.stack([user, order[:, 0]]), torch.stack([user, order[:, 1]])
    return build_data(NUM_USERS, num_items, train, val, test, {"image": image})


def few(train, num_items, num_users=2):
    """Return a few users; the second and third have validation and test items."""
    rows = torch.tensor(train)
    val, test = [[1], [num_items - 1]], [[1], [num_items - 2]]
    return build_data(num_users, num_items, rows, val, test, {"image": randn(num_items, 6)})


def only(item):
    """Return features of a single item."""
    image = torch.full((NUM_ITEMS, 6), torch.nan)
    image[item] = 1.0
    return image


CASES = {
    "identical features": lambda: usual(torch.full((NUM_ITEMS, 6), 3.0)),
    "identical wide features": lambda: usual(torch.full((NUM_ITEMS, 300), 3.0)),
    "zero features": lambda: usual(torch.zeros(NUM_ITEMS, 6)),
    "largest of float16": lambda: usual(randn(NUM_ITEMS, 300).sign().mul(65504).half()),
    "tiny features": lambda: usual(randn(NUM_ITEMS, 6) * 1e-30),
    "large features": lambda: usual(randn(NUM_ITEMS, 6) * 1e14),
    "large wide features": lambda: usual(randn(NUM_ITEMS, 300) * 1e14),
    "one column": lambda: usual(randn(NUM_ITEMS, 1)),
    "one item has features": lambda: usual(only(3)),
    "no item has features": lambda: usual(torch.full((NUM_ITEMS, 6), torch.nan)),
    "one interaction": lambda: few([[0], [0]], 25),
    "a user with everything": lambda: few([[0] * 25, list(range(25))], 25),
    "users with 10,000 items and with one": lambda: few(
        [[0] * 10_000 + [1, 2], [*range(10_000), 5, 6]], 10_020, 3
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model_class", [LD4MRec, LightGCN, FREEDOM])
def test_an_epoch_and_recommendations_are_finite(model_class, case):
    data = CASES[case]()
    num_items = data["item"].num_nodes
    batch_size = 16 if num_items < 1000 else 4096
    model = model_class.from_data(data, hidden_channels=8, batch_size=batch_size)
    result = fit(model, data, epochs=1, accelerator="cpu", progress=False)
    assert all(value == value for value in result.history[0].values())
    for p in model.parameters():
        assert p.isfinite().all()
    items, scores = model.recommend(list(range(data["user"].num_nodes)), k=20)
    assert torch.equal(scores.isneginf(), items == -1)
    assert scores[items >= 0].isfinite().all()


@pytest.mark.parametrize("model_class", [LD4MRec, LightGCN, FREEDOM])
def test_a_catalogue_of_one_item(model_class):
    data = build_data(2, 1, [[0], [0]], val=[[1], [0]], features={"image": randn(1, 3)})
    model = model_class.from_data(data, hidden_channels=8)
    with pytest.raises(ConfigError, match="the catalogue has 1 item, and training validates with"):
        fit(model, data, accelerator="cpu", progress=False)
    generator = torch.Generator().manual_seed(0)
    model.start_epoch(generator)
    loss = model.loss(torch.tensor([0]), generator)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    items, scores = model.recommend([0, 1], k=1)
    assert items.tolist() == [[-1], [0]]
    assert scores[1].isfinite().all()


def test_features_too_large_for_float32_products_are_rejected():
    image = randn(NUM_ITEMS, 6)
    image[[2, 5], 0] = -1e16
    with pytest.raises(DataError, match=r"2 of 25 items \(2, 5\) have a value beyond ±1e\+15"):
        usual(image)


def test_float16_features_are_summed_in_float32(tmp_path):
    import numpy as np

    # 65504 is the largest number of float16: the sum of two is infinite there.
    np.save(tmp_path / "x.npy", np.full((1000, 4), 65504, dtype=np.float16))
    table = load_features(tmp_path / "x.npy")
    assert table.mean() == 65504
    data = usual(torch.full((NUM_ITEMS, 4), 65504.0).half())
    assert data["item"].x_image.mean() == 65504
