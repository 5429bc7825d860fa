"""Items without training interactions: their vectors, and the bias of their scores."""

import copy

import pytest
import torch
import torch.nn.functional as F

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.evaluation.ranking import rank
from graphdiff.models.held_out import LENGTH, HeldOut
from graphdiff.models.ld4mrec.calibration import path_scorer
from graphdiff.models.ld4mrec.cold_items import (
    cold_neighbors,
    exchanges,
    smallest_bias,
    without_some_items,
)
from graphdiff.schema import INTERACTS
from graphdiff.transforms import ColdItems
from tests.conftest import make_model, random_data


def make_cold(num_users=60, num_items=80, share=0.2, **settings):
    """Return a small model, and data with many items that are only known by their features."""
    data = random_data(num_users, num_items, {"image": 6, "text": 5})
    data = ColdItems(share=share)(data)
    model = make_model(LD4MRec, data, **settings)
    model.start_epoch(torch.Generator().manual_seed(0))
    return model.eval(), data


def make_low(model, by=4.0):
    """Raise the scores of all items but cold ones."""
    with torch.no_grad():
        model.bias += by * (model.graph.item_degree() > 0)
    model.invalidate_tables()


def all_trained():
    """Return data in which every item has an interaction."""
    data = random_data(60, 80, {"image": 6}, density=0.5)
    kept = torch.cat([data[INTERACTS].edge_index, torch.tensor([[0], [79]])], dim=1)
    data[INTERACTS].edge_index = kept[:, (kept[0] * 80 + kept[1]).argsort()]
    return data


def scores(model):
    return model(torch.arange(model.num_users)).detach()


def test_neighbours_have_interactions_and_weights_sum_to_one():
    model, _ = make_cold()
    graph = model.graph
    found = cold_neighbors(graph)
    assert (graph.item_degree()[found.item] == 0).all()
    weight = found.graph.matrix.to_dense()
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(found.item.numel()))
    assert not weight[:, graph.item_degree() == 0].any()
    joined = torch.cat([graph.similar(name)[0] for name in graph.modalities], dim=1).t().tolist()
    edges = {tuple(edge) for edge in joined}
    for place, neighbor in weight.nonzero().tolist():
        assert (neighbor, found.item[place].item()) in edges


def test_weights_are_powers_of_mean_cosines():
    model, _ = make_cold()
    graph, found = model.graph, cold_neighbors(model.graph)
    unit = {}
    for name in graph.modalities:
        x = F.normalize(graph.features(name)[0], dim=1)
        unit[name] = F.normalize(x - x[graph.item_degree() > 0].mean(dim=0), dim=1)
    cosine = sum(x[found.item] @ x.t() for x in unit.values()) / 2
    weight = found.graph.matrix.to_dense()
    expected = torch.where(weight > 0, cosine.clamp(min=1e-3) ** 4, 0)
    expected /= expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-5)


def test_the_vector_is_the_mean_of_the_own_direction_and_that_of_the_neighbours():
    model, _ = make_cold(num_heads=2)
    found = cold_neighbors(model.graph)
    model.cold_items.neighbor_weight = 0.0
    own = model.tables().item
    model.cold_items.neighbor_weight = 1.0
    item = model.tables().item
    warm = torch.ones(model.num_items, dtype=torch.bool).index_fill(0, found.item, False)
    assert torch.equal(own[warm], item[warm])
    near = model.heads.normalize(found.graph.matrix.to_dense() @ own)
    torch.testing.assert_close(item[found.item], model.heads.normalize(own[found.item] + near))


def test_the_bias_is_added_to_the_scores_of_cold_items_alone():
    model, _ = make_cold()
    before = scores(model)
    model.cold_items.bias.fill_(0.75)
    added = scores(model) - before
    expected = torch.zeros(model.num_items).index_fill(0, cold_neighbors(model.graph).item, 0.75)
    torch.testing.assert_close(added, expected.expand_as(added))


def test_items_take_the_share_of_lists_that_they_have_in_the_catalogue():
    model, data = make_cold(num_items=200)
    make_low(model)
    # Validation pairs of cold items, so that recall is no reason for a smaller bias.
    model.calibrate(data[INTERACTS].val_edge_label_index)
    cold = torch.zeros(200, dtype=torch.bool).index_fill(0, cold_neighbors(model.graph).item, True)
    users = data[INTERACTS].val_edge_label_index[0].unique()
    share = cold[model.recommend(users, k=20)[0]].float().mean().item()
    assert share == pytest.approx(cold.float().mean().item(), abs=0.5 / users.numel())
    half, _ = make_cold(num_items=200, **{"cold_items.exposure": 0.5})
    make_low(half)
    half.calibrate(data[INTERACTS].val_edge_label_index)
    assert 0 < half.cold_items.bias < model.cold_items.bias


def test_exchanges_are_those_of_growing_the_bias():
    model, data = make_cold()
    graph, pairs = model.graph, data[INTERACTS].val_edge_label_index
    held_out = HeldOut(graph, pairs)
    users, num = held_out.user, held_out.user.numel()
    score = scores(model)[users]
    cold = graph.item_degree() == 0
    threshold, gain, recall = exchanges(held_out, score, cold, 0, num)
    for bias in (-3.0, 0.0, 0.4, 1.7, 30.0):
        moved = score + bias * cold
        top = moved.masked_fill(held_out.histories(0, num), -torch.inf).topk(LENGTH, dim=1).indices
        taken = threshold < bias
        assert taken.sum() == cold[top].sum()
        expected = held_out.recall(lambda start, stop, moved=moved: moved[start:stop].clone())
        found = (recall.sum() + gain[taken].sum()) / num
        torch.testing.assert_close(found, expected)


def test_the_bias_costs_at_most_a_hundredth_of_recall():
    threshold, gain = torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.tensor([-1.0, 1.0, -0.5, -3.0])
    chosen = [
        smallest_bias(threshold, gain, torch.tensor(r), 4).item() for r in (10.0, 60.0, 900.0)
    ]
    # After two exchanges nothing is lost; three cost .5; four 3.5.
    assert chosen == pytest.approx([0.5, 0.7, 1.8])
    taken_already = torch.tensor([-0.5, -0.1, 0.3])
    assert smallest_bias(taken_already, torch.zeros(3), torch.tensor(1.0), 1) == 0


@pytest.mark.parametrize("low", [-9.0, -torch.inf])
def test_lists_with_room_to_spare_count_among_the_places(low):
    # A list with fewer others than places takes cold items whatever their bias is.
    threshold = torch.tensor([low, low, 1.0, 2.0])
    assert smallest_bias(threshold, torch.zeros(4), torch.tensor(1.0), 4) == 3
    never = torch.tensor([low, 1.0, torch.inf, torch.inf])
    assert smallest_bias(never, torch.zeros(4), torch.tensor(1.0), 4) == 2


def test_without_cold_items_a_training_and_its_scores_are_the_same_with_and_without():
    data = all_trained()
    models = []
    for exposure in (0.0, 1.0):
        torch.manual_seed(0)
        model = LD4MRec.from_data(data, hidden_channels=8, **{"cold_items.exposure": exposure})
        fit(model, data, epochs=3, progress=False)
        models.append(model)
    assert cold_neighbors(models[0].graph) is None
    for one, two in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(*(scores(model) for model in models))


def test_added_items_get_the_bias_of_withheld_ones():
    model = make_model(LD4MRec, all_trained())
    model.start_epoch(torch.Generator().manual_seed(0))
    model.eval()
    reduced, pairs = without_some_items(model.graph)
    assert reduced.num_interactions + pairs.size(1) == model.graph.num_interactions
    assert pairs[1].unique().numel() == round(0.05 * 80)
    with torch.no_grad():  # New items get the mean.
        model.bias += 8.0 * (torch.arange(80) % 4 > 0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    known = scores(model)
    assert not model.cold_items.chosen
    features = {name: model.graph.features(name)[0][:5] for name in model.graph.modalities}
    plain = copy.deepcopy(model)
    plain.cold_items.exposure = 0.0
    new = [one.add_items(features) for one in (model, plain)]
    assert model.cold_items.chosen
    assert model.cold_items.bias > 0
    difference = (scores(model) - scores(plain))[:, new[0]]
    torch.testing.assert_close(difference, model.cold_items.bias.expand_as(difference))
    for name, value in model.named_parameters():
        assert torch.equal(value[: len(before[name])] if value.dim() else value, before[name])
    # What is known ranks as before.
    torch.testing.assert_close(scores(model)[:, : known.size(1)], known)


def test_adding_items_leaves_the_bias_of_cold_items_that_are_there():
    model, _ = make_cold()
    make_low(model)
    before = scores(model)
    new = {name: model.graph.features(name)[0][:2] for name in model.graph.modalities}
    model.add_items(new)
    torch.testing.assert_close(scores(model)[:, : before.size(1)], before)


def test_weight_of_the_linear_path_and_bias_do_not_drive_each_other():
    model, _ = make_cold(num_items=200, linear_path={"enabled": True, "rank": 8})
    make_low(model)
    # Held-out items that the path alone ranks first.
    users = torch.arange(model.num_users)
    rows = model.graph.rows(users)
    score = path_scorer(model.linear, model.graph, rows, kept=False)(0, len(users))
    score[rows.row, rows.item] = -torch.inf
    pairs, found = torch.stack([users, score.argmax(dim=1)]), []
    for _ in range(3):
        model.calibrate(pairs)
        found.append((model.linear.weight.item(), model.cold_items.bias.item()))
    assert found[0][0] > 0
    assert found[0][1] > 0
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("path", [True, False])
def test_no_held_out_pairs_leave_everything_as_it_is(path):
    model, data = make_cold(linear_path={"enabled": path, "rank": 8})
    assert cold_neighbors(model.graph) is not None
    model.calibrate(data[INTERACTS].val_edge_label_index)
    model.cold_items.bias.fill_(0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.calibrate(torch.empty(2, 0, dtype=torch.long))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("path", [True, False])
def test_what_is_chosen_is_the_same_under_autocast(path):
    model, data = make_cold(linear_path={"enabled": path, "rank": 8})
    make_low(model)
    pairs, found = data[INTERACTS].val_edge_label_index, []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            model.calibrate(pairs)
        mu = [model.linear.weight.item()] if path else []
        found.append([model.cold_items.bias.item(), *mu])
    assert found[0][0] > 0
    assert found[1] == found[0]


def test_small_catalogues_fit_into_every_list():
    model, data = make_cold(num_users=20, num_items=15)
    model.calibrate(data[INTERACTS].val_edge_label_index)
    assert model.cold_items.bias.isfinite()


def test_a_saved_model_has_the_bias(tmp_path):
    model, data = make_cold()
    make_low(model)
    model.calibrate(data[INTERACTS].val_edge_label_index)
    assert model.cold_items.bias > 0
    model.save_pretrained(tmp_path / "model")
    again = LD4MRec.from_pretrained(tmp_path / "model")
    assert again.cold_items.bias == model.cold_items.bias
    assert torch.equal(scores(again), scores(model))


def test_the_bias_makes_up_for_a_low_level_of_scores():
    data = ColdItems(share=0.15)(SyntheticMultimedia(num_users=300, num_items=200, seed=0)[0])
    cold = torch.bincount(data[INTERACTS].edge_index[1], minlength=200) == 0
    torch.manual_seed(0)
    model = LD4MRec.from_data(data, hidden_channels=32)
    fit(model, data, epochs=8, progress=False)
    make_low(model)
    found = []
    for exposure in (0.0, 1.0):
        model.cold_items.reset_parameters()
        model.cold_items.exposure = exposure
        model.calibrate(data[INTERACTS].val_edge_label_index)
        found.append(rank(model, data, "test").of_items(cold).mean()["recall@20"])
    assert found[1] > 1.5 * found[0] + 0.05


def test_the_bias_moves_with_the_number_of_users_who_answer():
    model, data = make_cold(num_items=200)
    make_low(model)
    pairs = data[INTERACTS].val_edge_label_index
    start = torch.tensor(0.5)
    best = copy.deepcopy(model)
    best.calibrate(pairs)
    assert best.cold_items.bias > 2
    num = pairs[0].unique().numel()
    model.cold_items.bias.copy_(start)
    model.before_update(pairs)
    share = num / (num + 100)
    torch.testing.assert_close(model.cold_items.bias, start.lerp(best.cold_items.bias, share))
    # Users without a history, and interactions of nobody, say nothing.
    before = model.cold_items.bias.clone()
    model.before_update(pairs[:, :0])
    assert torch.equal(model.cold_items.bias, before)


def test_without_exposure_an_update_sets_no_bias():
    model, data = make_cold(num_items=200, **{"cold_items.exposure": 0.0})
    make_low(model)
    model.before_update(data[INTERACTS].val_edge_label_index)
    assert model.cold_items.bias == 0
