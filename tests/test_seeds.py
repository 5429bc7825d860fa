"""Any non-negative integer is a seed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphdiff import LightGCN, fit
from graphdiff.errors import ConfigError
from graphdiff.evaluation.significance import bootstrap_interval
from graphdiff.seeds import as_seed, torch_seed
from graphdiff.training.batches import ShuffledBatches
from graphdiff.transforms import ColdItems, DropFeatures, InjectNoise
from tests.conftest import random_data

LARGE = [2**32, 2**63, 2**64, 2**64 + 1, 1785139200123456789, 10**40]


@given(st.integers(0, 2**200))
def test_kind_h_every_non_negative_integer_seeds_a_generator(seed):
    number = torch_seed(seed)
    generator = torch.Generator().manual_seed(number)
    assert generator.initial_seed() == number
    assert number == seed or seed >= 2**32
    assert torch_seed(seed) == number


def test_kind_h_large_seeds_differ():
    found = [torch_seed(seed) for seed in LARGE]
    assert len({*found, *range(10)}) == len(LARGE) + 10


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor])
def test_kind_h_integers_of_other_libraries(kind):
    assert as_seed(kind(3)) == 3
    assert type(as_seed(kind(3))) is int


@pytest.mark.parametrize("value", [-1, np.int64(-3), 1.0, 1.5, "3", None, True, [3]])
def test_kind_h_other_values_are_refused(value):
    with pytest.raises(ConfigError, match="give a non-negative integer"):
        as_seed(value)


@pytest.mark.parametrize("seed", [2**64, 10**40, np.int64(3)])
def test_kind_h_seeds_wherever_something_is_random(seed, tmp_path):
    data = random_data(40, 30, {"image": 6})

    def weights(seed, **arguments):
        model = LightGCN.from_data(data, hidden_channels=8)
        fit(model, data, seed=seed, progress=False, accelerator="cpu", **arguments)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    expected = weights(seed, epochs=2)
    assert torch.equal(weights(int(seed), epochs=1, out=tmp_path) * 0, expected * 0)
    assert torch.equal(weights(seed, epochs=2, out=tmp_path, resume=True), expected)
    assert not torch.equal(weights(int(seed) + 1, epochs=2), expected)
    for transform in (ColdItems, DropFeatures, InjectNoise):
        one, other = (transform(0.3, seed=s)(data) for s in (seed, int(seed)))
        edges = [d["user", "interacts", "item"].edge_index for d in (one, other)]
        assert torch.equal(*edges)
    one, other = (bootstrap_interval(np.arange(20.0), seed=s) for s in (seed, int(seed)))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize("seed", LARGE)
def test_kind_h_batches_of_large_seeds(seed):
    batches = ShuffledBatches(10, 4, seed)
    batches.set_epoch(3)
    first = [batch.tolist() for batch in batches]
    assert first == [batch.tolist() for batch in batches]
    batches.set_epoch(4)
    assert first != [batch.tolist() for batch in batches]
