"""Sizes of LD4MRec by the number of items."""

import pytest
import torch

from graphdiff import LD4MRec
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec import sizes
from graphdiff.models.ld4mrec.sizes import Size, size_for, with_sizes
from tests.conftest import random_data


@pytest.mark.parametrize("num_items", [1, 1_858, 6_710, 16_980, 100_000])
def test_small_catalogues_have_the_sizes_of_the_settings(num_items):
    config = LD4MRec.configure()
    assert size_for(num_items) == Size(
        config.hidden_channels,
        config.num_heads,
        config.objective.num_negatives,
        config.content_rank,
    )


def test_larger_catalogues_have_narrower_tables():
    widths = [size_for(num).width for num in (100_000, 100_001, 1_000_000, 1_000_001)]
    assert widths == [256, 128, 128, 64]


def graph(num_users, num_items, row_length):
    """Users who all have the first items."""
    rowptr = torch.arange(num_users + 1) * row_length
    return RecGraph(rowptr, torch.arange(row_length).repeat(num_users), num_items=num_items)


def test_what_is_set_stays():
    large = graph(1, 10**7, 1)
    config = with_sizes(LD4MRec.configure(**{"objective.num_negatives": 10}), large)
    assert (config.hidden_channels, config.num_heads, config.objective.num_negatives) == (64, 2, 10)
    config = with_sizes(LD4MRec.configure(num_heads=8), large)
    assert (config.hidden_channels, config.num_heads) == (256, 8)
    assert [with_sizes(LD4MRec.configure(**one), large).content_rank for one in (
        {}, {"content_rank": 256}, {"content_rank": 0})] == [64, 256, 0]  # fmt: skip


@pytest.mark.parametrize(
    ("num_items", "row_length", "enabled"), [(40, 9, False), (40, 10, True), (100_001, 10, False)]
)
def test_long_rows_of_few_items_have_a_linear_path(num_items, row_length, enabled):
    found = with_sizes(LD4MRec.configure(), graph(7, num_items, row_length)).linear_path
    assert (found.enabled, found.rank) == (enabled, 7)
    settings = {"linear_path.enabled": not enabled, "linear_path.rank": 100}
    kept = with_sizes(LD4MRec.configure(**settings), graph(7, num_items, row_length)).linear_path
    assert (kept.enabled, kept.rank) == (not enabled, 100)


@pytest.mark.parametrize(("num_items", "rank"), [(25_000, 1023), (25_001, 255), (10**6, 255)])
def test_larger_catalogues_keep_fewer_eigenvalues(num_items, rank):
    found = with_sizes(LD4MRec.configure(), graph(2_000, num_items, 10)).linear_path
    assert found.rank == rank


def test_a_saved_model_keeps_its_sizes(monkeypatch, tmp_path):
    monkeypatch.setattr(sizes, "SIZES", ((20, Size(8, 2, 16, 3)),))
    model = LD4MRec.from_data(random_data(30, 12))
    assert model.config.hidden_channels == model.items.weight.size(1) == 8
    assert (model.config.objective.num_negatives, model.config.content_rank) == (16, 3)
    model.save_pretrained(tmp_path)
    monkeypatch.undo()
    assert LD4MRec.from_pretrained(tmp_path).config == model.config
