"""The linear path against its equation on dense matrices, in float64."""

import pytest
import torch

from graphdiff.graph.item_graph import scaled_interactions
from graphdiff.graph.rows import Rows
from graphdiff.models import LD4MRec, Popularity
from graphdiff.models.ld4mrec.linear_path import LinearPath, one_sided
from graphdiff.models.ld4mrec.row_encoding import encode_scaled_rows
from tests.conftest import make_model, random_data

NUM_USERS, NUM_ITEMS = 40, 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def started(rank=NUM_ITEMS, num_sampled=100, features=None):
    graph = make_model(Popularity, random_data(NUM_USERS, NUM_ITEMS, features)).graph
    torch.manual_seed(0)
    path = LinearPath(graph, 4, rank, num_sampled, content_rank=3, shrinkage=2.0).double()
    path.reset_parameters()
    path.start(graph, generator())
    with torch.no_grad():
        path.items.weight.normal_()
        path.bias.normal_()
        path.pace.copy_(torch.tensor([0.3, -0.2]))
    return graph, path


def dense_scores(graph, path, x, scale=1.0):
    """Return the scores of rows x by the equation, with all eigenvalues of the item graph."""
    r = torch.from_numpy(scaled_interactions(graph).toarray())
    a = r.T @ r
    a = a / torch.linalg.eigvalsh(a)[-1]
    table = path.items(graph)
    w, g = 5 * path.pace
    mean = x @ table / x.sum(dim=1, keepdim=True).clamp(min=1)
    return w * mean @ table.T + scale * g * x @ a + path.bias


@pytest.mark.parametrize("features", [None, {"image": 6}])
def test_inference_is_the_equation(features):
    graph, path = started(features=features)
    rows = graph.rows(torch.arange(NUM_USERS))
    row_encoder, item = path.tables(graph)
    one = torch.ones((), dtype=torch.float64)
    found = path.freeze(weight=one)(encode_scaled_rows(row_encoder, rows)) @ item.T
    # The basis is stored in float32.
    expected = dense_scores(graph, path, rows.dense(NUM_ITEMS).double())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    half = path.freeze(weight=one / 2)(encode_scaled_rows(row_encoder, rows)) @ item.T
    torch.testing.assert_close(half, found / 2)
    empty = Rows(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), 1)
    alone = path.freeze(weight=one)(encode_scaled_rows(row_encoder, empty)) @ item.T
    torch.testing.assert_close(alone[0], path.bias)


def training_rows(graph):
    rows = graph.rows(torch.tensor([3, 0, 7, 11]))
    visible = torch.rand(rows.item.numel(), generator=generator(1)) < 0.5
    visible[rows.row == 2] = False  # A row that the encoder does not see at all.
    return rows, visible


def dense_loss(graph, path, rows, visible):
    x = rows.dense(NUM_ITEMS).double()
    seen = torch.zeros_like(x)
    seen[rows.row[visible], rows.item[visible]] = 1
    # The graph score of what is visible is scaled to the length of the row.
    length = x.sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True).clamp(min=1)
    score = dense_scores(graph, path, seen, length)
    hidden = (x > 0) & (seen == 0)
    error = torch.where(score > 0, score, 0.1 * score).square() * (x == 0)
    return (error + (1 - score).square() * hidden).sum(dim=1)


def test_the_loss_and_its_gradient_are_those_of_dense_rows():
    graph, path = started()
    rows, visible = training_rows(graph)
    gradients = []
    for loss in (
        path.loss(graph, rows, visible, generator()),
        dense_loss(graph, path, rows, visible),
    ):
        path.zero_grad()
        loss.sum().backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in path.parameters())])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-5)


def test_a_sample_of_the_items_gives_the_loss_on_average():
    graph, path = started(num_sampled=5)
    rows, visible = training_rows(graph)
    draws = generator(2)
    with torch.no_grad():
        losses = torch.stack([path.loss(graph, rows, visible, draws) for _ in range(4000)])
        expected = dense_loss(graph, path, rows, visible)
    error = losses.std(dim=0) / len(losses) ** 0.5
    assert error.min() > 0
    assert ((losses.mean(dim=0) - expected).abs() < 4 * error).all()


def test_a_truncated_graph_keeps_the_largest_eigenvalues():
    graph, path = started(rank=3)
    r = torch.from_numpy(scaled_interactions(graph).toarray())
    value, vector = torch.linalg.eigh(r.T @ r)
    expected = vector[:, -3:] * (value[-3:] / value[-1]) @ vector[:, -3:].T
    found = path.basis * path.eigenvalues @ path.basis.T
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_below_zero_the_error_is_a_hundredth():
    score = torch.tensor([3.0, -3.0], dtype=torch.float64)
    torch.testing.assert_close(one_sided(score), torch.tensor([9.0, 0.09], dtype=torch.float64))


def test_it_keeps_its_best_weights_and_ends_after_eight_looks_without_gain():
    graph, path = started()
    path.keep(graph, torch.tensor(0.5))
    kept = [value.clone() for value in path.tables(graph)]
    with torch.no_grad():
        path.items.weight.mul_(2)
        path.bias.add_(1)
    for look in range(8):
        assert not path.complete
        path.keep(graph, torch.tensor(0.5 - look / 100))
    assert path.complete
    for value, before in zip(path.tables(graph), kept, strict=True):
        assert torch.equal(value, before)
    assert not torch.equal(path.tables(graph, kept=False)[1], kept[1])
    path.keep(graph, torch.tensor(0.6))
    assert torch.equal(path.tables(graph)[1], path.tables(graph, kept=False)[1])
    assert not path.complete


@pytest.mark.parametrize(("num_items", "on"), [(12, False), (60, True)])
def test_it_is_on_where_rows_are_long(num_items, on):
    data = random_data(NUM_USERS, num_items)
    mean = data["user", "interacts", "item"].edge_index.size(1) / NUM_USERS
    assert (mean >= 10) == on
    assert (LD4MRec.from_data(data, hidden_channels=8).linear is not None) == on
    for enabled in (True, False):
        model = LD4MRec.from_data(data, hidden_channels=8, linear_path={"enabled": enabled})
        assert (model.linear is not None) == enabled
