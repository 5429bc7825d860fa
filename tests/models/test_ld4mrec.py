"""LD4MRec: its exact sparse training against dense rows, its guidance, and its inference."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import LD4MRec
from graphdiff.errors import ConfigError
from graphdiff.models import ld4mrec
from graphdiff.models.base import Query
from graphdiff.nn.graph import RecGraph
from tests.conftest import random_data
from tests.watch import ForbidShape

FEATURES = {"image": 6, "text": 5}


def make(seed=0, num_users=12, num_items=9, features=FEATURES, **settings):
    torch.manual_seed(seed)
    data = random_data(num_users, num_items, features)
    return LD4MRec.from_data(data, **{"hidden_channels": 8, **settings})


def dense_rows(row, item, value, num_rows, num_items):
    rows = torch.zeros(num_rows, num_items, dtype=value.dtype)
    rows[row, item] = value
    return rows


def dense_encode(table, row, item, weight, num_rows):
    return dense_rows(row, item, weight, num_rows, table.size(0)) @ table


def dense_error(hidden, items, row, item, target, weight):
    table, alpha, prior = items
    score = hidden @ table[:, :-1].t() + table[:, -1]
    target_rows = prior.expand_as(score).clone()
    weight_rows = alpha.expand_as(score).clone()
    target_rows[row, item], weight_rows[row, item] = target, weight
    return (weight_rows * (target_rows - score).square()).sum(dim=-1)


def dense_catalogue(table, bias, alpha, prior):
    return torch.cat([table, bias.unsqueeze(-1)], dim=-1), alpha, prior


def loss_and_gradients(model, seed=3):
    model.zero_grad()
    loss = model.loss(torch.arange(12), torch.Generator().manual_seed(seed))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("kept_weight", [0.0, 0.4])
@pytest.mark.parametrize("features", [{}, {"image": 6}, FEATURES])
def test_training_equals_dense_rows_in_double_precision(monkeypatch, features, kept_weight):
    settings = {
        "soft_probability": 0.5, "soft_intensity": 0.3, "kept_weight": kept_weight,
        "unobserved_weight": 0.2,
    }  # fmt: skip
    model = make(features=features, **settings).double()
    with torch.no_grad():  # away from the start, where C-Net is the identity
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    model.schedule.variance.zero_()  # no noise
    sparse_loss, sparse_grads = loss_and_gradients(model)
    model.steps.reset_parameters()
    monkeypatch.setattr(ld4mrec, "encode_rows", dense_encode)
    monkeypatch.setattr(ld4mrec, "catalogue", dense_catalogue)
    monkeypatch.setattr(ld4mrec, "reconstruction_error", dense_error)
    dense_loss, dense_grads = loss_and_gradients(model)
    torch.testing.assert_close(sparse_loss, dense_loss, rtol=1e-9, atol=1e-9)
    for name, expected in dense_grads.items():
        if expected is not None:
            torch.testing.assert_close(sparse_grads[name], expected, rtol=1e-9, atol=1e-9)


def test_noise_has_the_law_of_noise_on_dense_rows():
    model = make(noise_scale=0.9, num_steps=4)
    num, step = 100_000, 3
    with torch.no_grad():
        tables = model.tables()
        row, item, _ = rows = model.graph.rows(torch.tensor([2]))
        signals = model.signals(tables, rows)
        many = ld4mrec.Signals(*(value.expand(num, *value.shape[1:]) for value in signals))
        degree = len(item)
        repeated = torch.arange(num).repeat_interleave(degree)
        t = torch.full((num,), step)
        generator = torch.Generator().manual_seed(0)
        encoded = model._diffuse(tables, many, repeated, t, generator)
        x = dense_rows(row, item, torch.full((degree,), degree**-0.5), 1, model.num_items)
        alpha_bar = model.schedule.alpha_bar[step]
        sigma = x.norm() / model.num_items**0.5
        noise = torch.randn(num, model.num_items, generator=generator)
        dense = (alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * sigma * noise) @ tables.encoder
    error = dense.std(dim=0) / num**0.5
    assert ((encoded.mean(0) - dense.mean(0)).abs() < 6 * error).all()
    scale = dense.t().cov().diagonal().mean()
    torch.testing.assert_close(
        encoded.t().cov() / scale, dense.t().cov() / scale, rtol=0.02, atol=0.02
    )


def test_training_never_makes_a_tensor_of_batch_times_items():
    num_users, num_items = 23, 71
    model = make(num_users=num_users, num_items=num_items, num_negatives=10)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters())
    with ForbidShape((num_users, num_items)):
        loss = model.loss(torch.arange(num_users), generator)
        loss.backward()
        optimizer.step()


def test_the_watch_would_have_seen_a_dense_training(monkeypatch):
    monkeypatch.setattr(ld4mrec, "encode_rows", dense_encode)
    model = make(num_users=23, num_items=71, num_negatives=10)
    with pytest.raises(AssertionError), ForbidShape((23, 71)):
        model.loss(torch.arange(23), torch.Generator().manual_seed(0))


def test_scores_follow_the_docstring():
    model = make(num_neighbors=3).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
        adjacency = torch.zeros(12, 9)
        adjacency[model.graph.user, model.graph.col] = 1
        user_degree, item_degree = adjacency.sum(1), adjacency.sum(0)
        normed = adjacency / (user_degree[:, None] * item_degree.clamp(min=1)[None]).sqrt()
        step = normed.t() @ normed
        table = model.embedding
        collaborative = (table + step @ table + step @ step @ table) / 3
        content = []
        for name in ("image", "text"):
            x = model.graph.features(name)[0]
            x = F.layer_norm(x - x.mean(dim=0), x.shape[-1:])
            (source, target), weight = model.graph.similar(name)
            similar = torch.zeros(9, 9)
            similar[target, source] = weight
            gate = model.config.content_weight * torch.sigmoid(model.content[name].project(x))
            content.append(similar @ (table * gate))
        encoder = collaborative + sum(content) / 2
        rows = adjacency / user_degree.sqrt()[:, None]
        preferences = torch.stack([rows @ m for m in content], dim=1)
        gate = model.gate(preferences)
        preference = (gate.unsqueeze(-1) * preferences).sum(dim=1)
        hidden = model.cnet(
            rows @ encoder + preference - preferences.mean(dim=1),
            torch.zeros(12, dtype=torch.long),
            rows @ collaborative,
            preference,
        )
        hidden = hidden / (hidden.square().sum(-1, keepdim=True) + 0.05**2).sqrt()
        expected = hidden @ F.normalize(encoder, dim=-1).t() / model.log_temperature.exp()
        torch.testing.assert_close(model(torch.arange(12)), expected + model.bias)


def test_no_parameter_depends_on_the_number_of_users():
    few, many = make(num_users=12), make(num_users=120)
    assert few.num_parameters() == many.num_parameters()


def test_inference_is_one_deterministic_pass():
    model = make()
    assert all(map(torch.equal, model.recommend([0, 5], 4), model.recommend([0, 5], 4)))
    calls = []
    model.cnet.register_forward_hook(lambda *_: calls.append(1))
    model.recommend([0, 5], 4)
    assert len(calls) == 1


def test_reverse_chain_walks_every_step_and_answers_the_same_each_time():
    model = make(num_steps=6, noise_scale=0.5)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    calls = []
    model.cnet.register_forward_hook(lambda _, args, out: calls.append(args[1][0].item()))
    first = model.recommend([0, 5], 4, num_steps=6)
    assert calls == [6, 5, 4, 3, 2, 1]
    assert all(map(torch.equal, first, model.recommend([0, 5], 4, num_steps=6)))
    with pytest.raises(ConfigError, match="diffuses in 6 steps; give 1 to 6"):
        model.recommend([0], 4, num_steps=7)


def test_reverse_chain_equals_the_chain_on_dense_rows():
    model = make(num_steps=4, noise_scale=0.5).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
        users = torch.arange(12)
        tables = model.tables()
        row, item, _ = rows = model.graph.rows(users)
        signals = model.signals(tables, rows)
        value = model.graph.user_degree().float().rsqrt()
        x_t = dense_rows(row, item, value[row], 12, 9)
        start = model._diffuse(tables, signals, row, torch.full((12,), 4), fixed())
        # Any row that encodes to the start will do: the network sees rows only encoded.
        x_t = start @ torch.linalg.pinv(tables.encoder)
        for step in (4, 3, 2, 1):
            t = torch.full((12,), step)
            hidden = model.hidden(x_t @ tables.encoder, t, signals)
            x_0 = model.log_scale.exp() * hidden @ tables.encoder.t() + model.reconstruction_bias
            x_t = model.schedule.step(value[:, None] * x_0, x_t, t)
        expected = model._query(hidden)
        found = model.vectors(Query(rows), tables, num_steps=4)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def fixed():
    return torch.Generator().manual_seed(0)


def test_gate_is_a_share_over_the_modalities_a_user_has():
    data = random_data(features=FEATURES)
    mine = data["user", "interacts", "item"].edge_index
    mine = mine[1, mine[0] == 4]
    data["item"].has_image[mine] = False
    data["item"].x_image[mine] = 0
    torch.manual_seed(0)
    model = LD4MRec.from_data(data, hidden_channels=8)
    share = model.modality_preference(torch.arange(12))
    assert share["image"][4] == 0
    assert share["text"][4] == 1
    total = share["image"] + share["text"]
    torch.testing.assert_close(total, torch.ones(12))
    with torch.no_grad():
        model.gate.bias[0] = 2.0
    assert (model.modality_preference(torch.arange(12))["image"] >= share["image"]).all()


def test_no_modality_at_all():
    model = make(features={})
    assert model.modality_preference(0) == {}
    assert model.recommend(0, 3)[0].shape == (1, 3)


def test_wide_features_are_reduced():
    model = make(features={"image": 40}, max_features=4)
    assert model.content["image"].features.shape == (9, 4)
    again = make(seed=9, features={"image": 40}, max_features=4)
    assert torch.equal(model.content["image"].features, again.content["image"].features)


def test_an_item_without_interactions_is_scored_from_its_content():
    model = make(num_users=40, num_items=30, features={"image": 6}, num_neighbors=3).eval()
    cold = 29
    assert model.graph.item_degree()[cold] == 0
    with torch.no_grad():
        model.embedding[cold] = 0
        before = model.tables().item[cold]
        assert before.norm() == pytest.approx(1.0)
        # It points where its neighbours do, seen through their gates.
        (source, target), _ = model.graph.similar("image")
        near = source[target == cold]
        content = model.content["image"]
        gate = torch.sigmoid(content.project(content.features))
        expected = (model.embedding * gate)[near].sum(dim=0)
    torch.testing.assert_close(before, F.normalize(expected, dim=0))


def test_users_of_whom_nothing_is_visible_do_no_harm():
    model = make(input_dropout=0.99)
    loss, grads = loss_and_gradients(model)
    assert loss.isfinite()
    norms = [grad.norm() for grad in grads.values() if grad is not None]
    assert torch.stack(norms).max() < 1e3


def test_a_batch_without_any_interaction():
    graph = RecGraph(torch.tensor([0, 0, 1]), torch.tensor([0]), num_items=2)
    model = LD4MRec(LD4MRec.configure(hidden_channels=4), graph)
    model.loss(torch.tensor([0]), fixed()).backward()
    items, scores = model.recommend([0], 2)
    assert sorted(items[0].tolist()) == [0, 1]
    assert scores.isfinite().all()


def test_repr_tells_the_sizes():
    assert str(make()).startswith("LD4MRec(12, 9, hidden_channels=8, parameters=")
