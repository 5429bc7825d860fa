"""Item embeddings to start training from."""

import pytest
import torch

from graphdiff import LD4MRec, fit
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.spectral_start import DEVIATION, spectral_start
from tests.conftest import random_data


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def graph_of(data):
    return RecGraph.from_data(data, content=False)


def test_inner_products_are_those_of_the_singular_vectors():
    graph = graph_of(random_data(30, 20))
    table = spectral_start(graph, 6, generator())
    dense = torch.from_numpy(graph.to_scipy().toarray())
    norm = dense.sum(1, keepdim=True).clamp(min=1) * dense.sum(0, keepdim=True).clamp(min=1)
    _, value, vectors = torch.linalg.svd(dense * norm.rsqrt(), full_matrices=False)
    expected = vectors[:6].t() * value[:6] @ vectors[:6]
    found = table @ table.t()
    scale = expected.trace() / found.trace()
    torch.testing.assert_close(scale * found, expected, rtol=0, atol=2e-3)
    assert table.std().item() == pytest.approx(DEVIATION)


def test_the_rotation_depends_on_the_seed_alone():
    graph = graph_of(random_data(30, 20))
    one, same, other = (spectral_start(graph, 6, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_more_channels_than_items():
    assert spectral_start(graph_of(random_data(30, 20)), 64, generator()).shape == (20, 64)


def test_none_for_no_interactions():
    empty = RecGraph(torch.zeros(4, dtype=torch.long), torch.zeros(0, dtype=torch.long), 5)
    assert spectral_start(empty, 4, generator()) is None


def test_training_starts_from_it_once(tmp_path):
    data = random_data(40, 30)
    settings = {"hidden_channels": 8, "num_heads": 2, "batch_size": 16, "lr": 1e-12}
    # An average of the weights would hold a part of the random start.
    settings |= {"ema_decay": 0.0, "spectral_start": True}

    def trained(out=None, **arguments):
        model = LD4MRec.from_data(data, **(settings | arguments.pop("model", {})))
        fit(model, data, out=out, progress=False, accelerator="cpu", patience=99, **arguments)
        return model.items.weight.detach().clone()

    expected = spectral_start(graph_of(data), 8, generator(0)).float()
    whole = trained(epochs=3)
    torch.testing.assert_close(whole.std(), expected.std(), rtol=0.01, atol=0)
    singular = torch.linalg.svdvals(whole)
    torch.testing.assert_close(singular, torch.linalg.svdvals(expected), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(trained(epochs=1, model={"spectral_start": False}), whole, atol=1e-3)
    trained(tmp_path, epochs=1)
    assert torch.equal(trained(tmp_path, epochs=3, resume=True), whole)
