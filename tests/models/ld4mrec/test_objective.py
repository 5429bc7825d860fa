"""Both losses of LD4MRec against dense rows."""

import pytest
import torch

from graphdiff import Popularity
from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.adoption import changed
from graphdiff.models.ld4mrec.config import ObjectiveConfig
from graphdiff.models.ld4mrec.objective import (
    SoftReconstruction,
    item_frequency,
    item_popularity,
    ranking_loss,
)
from graphdiff.nn.heads import split_heads
from graphdiff.nn.losses import Negatives
from graphdiff.nn.pairs import Pairs, pair_products
from graphdiff.nn.reconstruction import sum_item_table
from tests.conftest import make_model, random_data

NUM_ITEMS, HEADS, WIDTH = 7, 2, 6
ROWS = Rows(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1, 5, 0, 2, 6]), num=3)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def double(*size):
    return torch.randn(*size, dtype=torch.float64)


@pytest.mark.parametrize("soft_probability", [0.0, 0.4])
def test_soft_reconstruction_is_the_error_over_whole_rows(soft_probability):
    config = ObjectiveConfig(
        soft_probability=soft_probability, soft_intensity=0.3, unobserved_weight=0.2
    )
    reconstruction = SoftReconstruction(NUM_ITEMS, config).double()
    with torch.no_grad():
        reconstruction.bias.normal_()
        reconstruction.log_scale.fill_(0.3)
    table, hidden = double(NUM_ITEMS, WIDTH), double(3, WIDTH)
    popularity = torch.rand(NUM_ITEMS, dtype=torch.float64)
    softened = torch.tensor([True, False, False, True, True])
    weight = torch.tensor([0.5, 1, 1, 0.5, 1]).double()
    sums = sum_item_table(
        table, torch.zeros_like(table), reconstruction.bias, popularity, ROWS.item, HEADS
    )
    heads = split_heads(hidden, HEADS).contiguous()
    pairs = Pairs(ROWS.row, torch.arange(5), ROWS.num, 5)
    product = pair_products(heads, split_heads(sums.rows, HEADS).contiguous(), pairs)
    found = reconstruction(sums, heads, product, ROWS, softened, weight, popularity)

    target = soft_probability * 0.3 * popularity.repeat(3, 1)
    target[ROWS.row, ROWS.item] = 1 - 0.3 * softened.double()
    weights = torch.full((3, NUM_ITEMS), 0.2, dtype=torch.float64)
    weights[ROWS.row, ROWS.item] = weight
    for head in range(HEADS):
        part = slice(3 * head, 3 * head + 3)
        score = torch.tensor(0.3).double().exp() * hidden[:, part] @ table[:, part].t()
        error = weights * (target - score - reconstruction.bias).square()
        torch.testing.assert_close(found[head], error.sum(dim=1))


def test_the_ranking_loss_is_a_softmax_of_each_item_against_the_negatives():
    table, bias, query = double(NUM_ITEMS, WIDTH), double(NUM_ITEMS), double(3, WIDTH)
    negatives = Negatives(torch.tensor([3, 0, 4]), double(3))
    weight = torch.tensor([0.5, 1, 0, 1, 1]).double()
    queries, tables = split_heads(query, HEADS), split_heads(table, HEADS)
    own = (queries @ tables.mT)[:, ROWS.row, ROWS.item] + bias[ROWS.item]
    against = negatives.item
    found = ranking_loss(queries, own, ROWS, tables[:, against], bias[against], negatives, weight)
    for head in range(HEADS):
        part = slice(3 * head, 3 * head + 3)
        score = query[:, part] @ table[:, part].t() + bias
        against = (score[:, negatives.item] - negatives.log_chance).logsumexp(dim=1)
        surprise = weight * (against[ROWS.row] - score[ROWS.row, ROWS.item])
        expected = torch.zeros(3).double().index_add(0, ROWS.row, surprise)
        torch.testing.assert_close(found[head], expected)
    assert found[:, 1].tolist() == [0, 0]  # an empty row


def test_popularity_is_relative_to_the_most_popular_item():
    graph = make_model(Popularity, random_data(30, 12)).graph
    degree = graph.item_degree().float()
    torch.testing.assert_close(item_frequency(graph), degree / degree.sum())
    torch.testing.assert_close(item_popularity(graph), degree / degree.max())


def test_new_entries_are_the_mean_of_chosen_ones():
    parameter = torch.nn.Parameter(torch.tensor([1.0, 3.0, 8.0]))
    longer = changed(parameter, None, 2, torch.tensor([True, True, False]))
    assert isinstance(longer, torch.nn.Parameter)
    assert longer.tolist() == [1, 3, 8, 2, 2]
    kept = torch.tensor([False, True, True])
    assert changed(parameter, kept, 1, ~kept).tolist() == [3, 8, 1]
