"""Messages over interactions that are read in pieces."""

import pytest
import torch

from graphdiff.graph import RecGraph
from graphdiff.graph.message_graphs import item_to_user_graph
from graphdiff.graph.round_trips import smoothed
from graphdiff.graph.streamed_messages import is_streamed, row_blocks
from graphdiff.models import LD4MRec
from graphdiff.models.ld4mrec import content_embedding, spectral_start
from graphdiff.nn.signals import CollaborativeSignal
from tests.conftest import random_data


@pytest.fixture
def graph():
    """A graph with users without interactions, first and last."""
    data = random_data(60, 25, {"image": 6})
    graph = RecGraph.from_data(data)
    rowptr = torch.cat([torch.zeros(2).long(), graph.rowptr, graph.rowptr[-1:]])
    x, has = graph.features("image")
    return RecGraph(rowptr, graph.col, graph.num_items, {"image": x}, {"image": has})


@pytest.mark.parametrize(
    ("interactions", "entries"), [(2**22, 2**24), (7, 2**24), (50, 12), (1, 1)]
)
def test_blocks_are_all_rows_in_order(graph, monkeypatch, interactions, entries):
    monkeypatch.setattr("graphdiff.graph.streamed_messages.BLOCK_INTERACTIONS", interactions)
    monkeypatch.setattr("graphdiff.graph.streamed_messages.BLOCK_ENTRIES", entries)
    found = list(row_blocks(graph, 4))
    assert torch.equal(torch.cat([col for _, col in found]), graph.col)
    assert torch.equal(torch.cat([rowptr.diff() for rowptr, _ in found]), graph.user_degree())
    assert all(len(col) <= interactions or len(rowptr) == 2 for rowptr, col in found)


@pytest.mark.parametrize("interactions", [2**22, 40])
def test_smoothing_is_that_of_a_graph_in_memory(graph, monkeypatch, interactions):
    monkeypatch.setattr("graphdiff.graph.streamed_messages.BLOCK_INTERACTIONS", interactions)
    table = torch.randn(graph.num_items, 8, dtype=torch.float64)
    before = table.clone()
    expected = CollaborativeSignal(2)(table, graph.cached(item_to_user_graph))
    torch.testing.assert_close(smoothed(graph, table, 2), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(table, before)


def test_a_model_with_streamed_messages_trains_the_same(monkeypatch):
    data, losses, tops = random_data(60, 25, {"image": 6}), [], []
    for limit in (2**25, 1):
        monkeypatch.setattr("graphdiff.graph.streamed_messages.STREAMED", limit)
        torch.manual_seed(0)
        model = LD4MRec.from_data(data, hidden_channels=8, **{"propagation.every": 2})
        assert is_streamed(model.graph) == (limit == 1)
        generator = torch.Generator().manual_seed(0)
        model.reset_parameters()
        model.start_epoch(generator)
        losses.append([model.loss(torch.arange(20), generator).item() for _ in range(3)])
        tops.append(model.eval().recommend(torch.arange(60), k=5)[1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(tops[0], tops[1])


def test_the_streamed_start_is_that_of_a_matrix_in_memory(graph, monkeypatch):
    start = spectral_start.spectral_start
    # With the vectors beyond those that are needed, both span all directions.
    found = [start(graph, 20, torch.Generator().manual_seed(0)).double()]
    monkeypatch.setattr(spectral_start, "LARGEST", 1)
    monkeypatch.setattr("graphdiff.graph.streamed_messages.BLOCK_INTERACTIONS", 30)
    found.append(start(graph, 20, torch.Generator().manual_seed(0)).double())
    # The rotation, and with it the scale, is that of other signs.
    one, other = (table @ table.T / table.square().sum() for table in found)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_principal_directions_and_agreement_in_pieces(graph, monkeypatch):
    found = []
    for _ in range(2):
        content = content_embedding.ContentEmbedding(graph, channels=8, rank=6)
        content.start(graph, torch.Generator().manual_seed(0))
        found.append((content.coordinates @ content.coordinates.T, content.agreement))
        monkeypatch.setattr(content_embedding, "ITEMS", 7)
        monkeypatch.setattr(content_embedding, "INTERACTIONS", 20)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_model_without_item_layers_reads_no_item_graph(tmp_path):
    data = random_data(60, 25, {"image": 6})
    settings = {"hidden_channels": 8, "propagation.num_item_layers": 0}
    model = LD4MRec.from_data(data, **settings)
    assert model.graph.similar("image")[0].shape == (2, 0)
    model.eval().save_pretrained(tmp_path)
    new = model.add_items({"image": [[1.0] * 6]})
    assert model.recommend([0], k=26, exclude_seen=False)[0].numel() == 26
    assert new.tolist() == [25]
    again = LD4MRec.from_pretrained(tmp_path)
    assert again.graph.similar("image")[0].shape == (2, 0)
    heat = LD4MRec.from_data(data, **settings, **{"diffusion.process": "content_heat"})
    assert heat.graph.similar("image")[0].size(1)
