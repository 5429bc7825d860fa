"""Item embeddings from features: principal directions and agreement of users."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff.graph.store import RecGraph
from graphdiff.models import LD4MRec
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding, agreement
from tests.conftest import make_model, random_data


def graph_of(rows, features, has=None):
    """A graph of users' rows, with one modality."""
    num_items = features.size(0)
    rowptr = torch.tensor([0, *torch.tensor([len(row) for row in rows]).cumsum(0)])
    col = torch.tensor([item for row in rows for item in row], dtype=torch.long)
    has = torch.ones(num_items, dtype=torch.bool) if has is None else has
    return RecGraph(rowptr, col, num_items, {"image": features}, {"image": has})


def started(graph, channels=8, rank=4, seed=0):
    content = ContentEmbedding(graph, channels, rank)
    content.start(graph, torch.Generator().manual_seed(seed))
    return content


def test_agreement_is_one_for_equal_items_of_a_user_and_zero_by_chance():
    two_kinds = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert agreement(two_kinds, graph_of([[0, 1], [2, 3]], two_kinds)) == 1
    # Opposite items of a user give no agreement either.
    assert agreement(two_kinds, graph_of([[0, 2], [1, 3]], two_kinds)) == 0
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator)
    rows = [torch.randperm(200, generator=generator)[:10].sort().values.tolist() for _ in range(99)]
    assert agreement(x, graph_of(rows, x)) < 0.02


def test_agreement_is_the_intraclass_correlation_pair_by_pair():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 3, generator=generator)
    x[:3] += 5  # users of one of these have others
    x[6] = 0  # lacks the modality
    rows = [[0, 1, 2], [3, 5], [3, 4, 5, 6], [3], [0, 6], [0, 2, 6]]
    seen = torch.tensor([i for row in rows for i in row if i != 6])
    z = x - x[seen].mean(dim=0)
    pairs = squares = 0.0
    for row in rows:
        own = [i for i in row if i != 6]
        if len(own) > 1:
            between = sum(z[i] @ z[j] for i in own for j in own if i != j)
            pairs += between / (len(own) - 1)
            squares += sum(z[i] @ z[i] for i in own)
    expected = max(0.0, float(pairs / squares))
    assert expected > 0
    assert float(agreement(x, graph_of(rows, x))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rows", [[[0], [1]], [[], []]])
def test_agreement_of_users_without_pairs_is_zero(rows):
    x = torch.eye(3)
    assert agreement(x, graph_of(rows, x)) == 0


def test_coordinates_keep_the_directions_of_most_variance_and_have_length_one():
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(60, 2, generator=generator) @ torch.randn(2, 20, generator=generator)
    x = signal + 1e-4 * torch.randn(60, 20, generator=generator)
    has = torch.ones(60, dtype=torch.bool)
    has[7] = False
    x[7] = 0
    content = started(graph_of([[0, 1], [2, 3]], x, has), rank=2)
    coordinates = content.coordinates
    assert not coordinates[7].any()
    torch.testing.assert_close(coordinates[has].norm(dim=1), torch.ones(59))
    unit = F.normalize(x[has], dim=1)
    centred = F.normalize(unit - unit.mean(dim=0), dim=1)
    # The data has two directions, so that no cosine changes.
    torch.testing.assert_close(
        coordinates[has] @ coordinates[has].t(), centred @ centred.t(), atol=1e-3, rtol=0
    )


def test_maps_start_as_large_as_users_agree():
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(40) % 2
    x = torch.where(kind.unsqueeze(1) > 0, 1.0, -1.0) * torch.randn(1, 6, generator=generator)
    x = x + 0.1 * torch.randn(40, 6, generator=generator)
    alike = [sorted([i, i + 2, i + 4]) for i in range(30)]
    content = started(graph_of(alike, x), channels=500, rank=6)
    assert 0.5 < float(content.agreement) <= 1
    assert content.weight.std().item() == pytest.approx(float(content.agreement), rel=0.1)
    unlike = [[i, i + 1] for i in range(0, 40, 2)]
    content = started(graph_of(unlike, x))
    assert not content.weight.any()
    content().square().sum().backward()  # zero, and it can still learn:
    (content() - 1).square().sum().backward()
    assert content.weight.grad.any()


def test_it_starts_once_and_can_be_reset():
    data = random_data(features={"image": 5})
    model = make_model(LD4MRec, data)
    content = model.items.content
    assert not content().any()
    model.start_epoch(torch.Generator().manual_seed(0))
    first = content.weight.detach().clone()
    model.start_epoch(torch.Generator().manual_seed(1))
    assert torch.equal(content.weight, first)
    torch.manual_seed(3)
    content.agreement.fill_(0.5)
    model.reset_parameters()
    assert not torch.equal(content.weight, first)
    assert content().any(dim=1).all()


def test_directions_do_not_depend_on_earlier_random_numbers():
    data = random_data(features={"image": 5})
    found = []
    for seed in (0, 1):
        model = make_model(LD4MRec, data)
        torch.manual_seed(seed)
        model.start_epoch(torch.Generator().manual_seed(0))
        found.append(model.items.content.coordinates)
        after = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(torch.rand(1), after)
    assert torch.equal(*found)
