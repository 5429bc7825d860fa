"""Targets of LD4MRec's reconstruction, and the items' frequencies."""

import pytest
import torch

from graphdiff import Popularity
from graphdiff.models.ld4mrec.adoption import changed
from graphdiff.models.ld4mrec.config import ObjectiveConfig
from graphdiff.models.ld4mrec.objective import (
    SoftReconstruction,
    item_frequency,
    item_popularity,
)
from tests.conftest import make_model, random_data


@pytest.mark.parametrize("soft_probability", [0.0, 0.4])
def test_targets_are_softened_by_popularity(soft_probability):
    config = ObjectiveConfig(soft_probability=soft_probability, soft_intensity=0.3)
    reconstruction = SoftReconstruction(5, config)
    torch.nn.init.normal_(reconstruction.bias)
    popularity = torch.tensor([1.0, 0.5, 0.0, 0.2, 0.1])
    item, softened = torch.tensor([3, 0]), torch.tensor([soft_probability > 0, False])
    prior = soft_probability * 0.3 * popularity
    residual = reconstruction.residual(popularity)
    torch.testing.assert_close(residual, prior - reconstruction.bias)
    excess = reconstruction.excess(popularity, item, softened)
    assert (excess is None) == (soft_probability == 0)
    target = residual[item] + (1 if excess is None else excess) + reconstruction.bias[item]
    torch.testing.assert_close(target, 1 - 0.3 * softened.float())


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
