"""LD4MRec: exact sparse training against dense rows, guidance, and inference."""

import pytest
import torch
import torch.nn.functional as F
from dense_reference import chain_on_rows, dense_losses, dense_rows

from graphdiff import LD4MRec
from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.base import Query
from graphdiff.models.ld4mrec.reverse_chain import PREDICTED, ExpectedRows, corrupted_rows
from graphdiff.models.ld4mrec.row_diffusion import noise_scale
from graphdiff.nn.heads import head_blocks, normalize_heads
from graphdiff.nn.processes import EncodedRows
from tests.conftest import random_data
from tests.watch import ForbidShape

FEATURES = {"image": 6, "text": 5}


def make(seed=0, num_users=12, num_items=9, features=FEATURES, **settings):
    torch.manual_seed(seed)
    data = random_data(num_users, num_items, features)
    model = LD4MRec.from_data(data, **{"hidden_channels": 8, "gated": True, **settings})
    content = model.items.content
    if content is not None:
        content.start(model.graph, fixed())
        # On such small data all agreements may be zero.
        content.agreement.copy_(torch.arange(1, len(features) + 1) / 10)
    return model


PROCESSES = [
    {},
    {"process": "masking"},
    {"process": "flipping", "strength": 2.0},
    {"process": "heat"},
    {"process": "content_heat", "strength": 0.7},
    {"process": "heat", "whole_row": True},
    {"whole_row": True, "enabled": False},
    {"process": "masking+heat"},
    {"process": "masking+gaussian"},
]


def gradients(model, losses):
    model.zero_grad()
    losses.mean().backward()
    return {
        name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.numel()
    }


@pytest.mark.parametrize("every", [0, 100])
@pytest.mark.parametrize("visible_weight", [0.0, 0.4])
@pytest.mark.parametrize("features", [{}, {"image": 6}, FEATURES])
def test_training_equals_dense_rows_in_double_precision(features, visible_weight, every):
    objective = {
        "soft_probability": 0.5, "soft_intensity": 0.3, "visible_weight": visible_weight,
        "unobserved_weight": 0.2,
    }  # fmt: skip
    settings = {"objective": objective, "propagation.every": every}
    model = make(features=features, **settings).double()
    with torch.no_grad():  # away from the start, where C-Net is the identity
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    model.schedule.variance.zero_()  # no noise
    rows, position = model.graph.located_rows(torch.arange(12))
    draw = model.draw(rows, fixed())
    withheld = position[~draw.visible]
    sparse = model.row_losses(rows, draw, withheld)
    dense = dense_losses(model, rows, draw, withheld)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    sparse_grads, dense_grads = gradients(model, sparse), gradients(model, dense)
    assert sparse_grads.keys() == dense_grads.keys()
    for name, expected in dense_grads.items():
        torch.testing.assert_close(sparse_grads[name], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("every", [0, 100])
@pytest.mark.parametrize("diffusion", PROCESSES[1:], ids=str)
def test_every_process_equals_dense_rows_in_double_precision(diffusion, every):
    settings = {"diffusion": {"num_steps": 4, **diffusion}, "propagation.every": every}
    model = make(num_items=20, num_heads=2, **settings).double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    if "gaussian" in model.config.diffusion.process:
        model.schedule.variance.zero_()  # no noise
    rows, position = model.graph.located_rows(torch.arange(12))
    draw = model.draw(rows, fixed())
    assert (draw.inserted.item.numel() > 0) == (diffusion.get("process") == "flipping")
    withheld = position[~draw.visible]
    sparse = model.row_losses(rows, draw, withheld)
    dense = dense_losses(model, rows, draw, withheld)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    sparse_grads, dense_grads = gradients(model, sparse), gradients(model, dense)
    assert sparse_grads.keys() == dense_grads.keys()
    for name, expected in dense_grads.items():
        torch.testing.assert_close(sparse_grads[name], expected, rtol=1e-9, atol=1e-9)


def test_propagation_is_repeated_after_some_steps():
    model = make(propagation={"every": 2})
    rows = model.graph.rows(torch.arange(12))
    seen = []
    for _ in range(4):
        model.row_losses(rows, model.draw(rows, fixed()))
        seen.append(model.messages._last[0])
        with torch.no_grad():
            model.items.weight.mul_(1.5)
            model.items.content.weight.mul_(1.5)
    assert seen[0] is seen[1]
    assert seen[2] is seen[3]
    torch.testing.assert_close(seen[2], 1.5**2 * seen[0])
    with torch.no_grad():
        fresh = model.tables().encoder
    model.start_epoch(fixed())
    model.row_losses(rows, model.draw(rows, fixed()))
    torch.testing.assert_close(model.items(model.graph) + model.messages._last[0], fresh)


def test_hidden_items_are_removed_from_message_passing(monkeypatch):
    model = make()
    position = model.graph.located_rows(torch.arange(4))[1]
    calls = []
    losses = type(model).row_losses
    monkeypatch.setattr(
        type(model), "row_losses", lambda *a: calls.append(a[2:]) or losses(*a), raising=True
    )
    model.loss(torch.arange(4), fixed())
    ((draw, withheld),) = calls
    assert torch.equal(withheld, position[~draw.visible])
    assert 0 < withheld.numel() < position.numel()
    for settings in ({"propagation.hide_targets": False}, {"propagation.num_layers": 0}):
        make(**settings).loss(torch.arange(4), fixed())
        assert calls.pop()[1] is None


@pytest.mark.parametrize("num_heads", [1, 2])
def test_noise_has_the_law_of_noise_on_dense_rows_of_each_head(num_heads):
    model = make(diffusion={"noise_scale": 0.9, "num_steps": 4}, num_heads=num_heads).double()
    num, step = 100_000, 3
    with torch.no_grad():
        table = model.tables().encoder
        item = model.graph.rows(torch.tensor([2])).item
        many = Rows(torch.arange(num).repeat_interleave(len(item)), item.repeat(num), num)
        x = dense_rows(Rows(torch.zeros_like(item), item, 1), 9, torch.float64) / len(item) ** 0.5
        generator = fixed()
        noise = torch.randn(num, 8, generator=generator, dtype=torch.float64)
        t = torch.full((num,), step)
        gram = head_blocks(table.t() @ table, num_heads)
        scale = noise_scale(many.degree().double(), 9)
        rows = EncodedRows((x @ table).expand(num, -1), None, gram, scale)
        encoded = model.process.corrupt(rows, t, noise)
        alpha_bar = model.schedule.alpha_bar[step]
        sigma = x.norm() / model.num_items**0.5
        noise = torch.randn(num, model.num_items, generator=generator, dtype=torch.float64)
        dense = (alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * sigma * noise) @ table
    error = dense.std(dim=0) / num**0.5
    assert ((encoded.mean(0) - dense.mean(0)).abs() < 6 * error).all()
    found, expected = encoded.t().cov(), dense.t().cov()
    scale = expected.diagonal().mean()
    # Each head has its own noise.
    expected = torch.block_diag(*head_blocks(expected, num_heads))
    torch.testing.assert_close(found / scale, expected / scale, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("diffusion", PROCESSES, ids=str)
def test_training_never_makes_a_tensor_of_batch_times_items(diffusion):
    num_users, num_items = 23, 71
    path = {"enabled": True, "rank": 5, "num_sampled": 10}
    settings = {"objective": {"num_negatives": 10}, "diffusion": diffusion, "linear_path": path}
    model = make(num_users=num_users, num_items=num_items, **settings)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters())
    with ForbidShape((num_users, num_items)):
        loss = model.loss(torch.arange(num_users), generator)
        loss.backward()
        optimizer.step()


def test_the_watch_detects_a_dense_training():
    model = make(num_users=23, num_items=71, objective={"num_negatives": 10}).double()
    rows = model.graph.rows(torch.arange(23))
    draw = model.draw(rows, fixed())
    model.row_losses(rows, draw)
    with pytest.raises(AssertionError), ForbidShape((23, 71)):
        dense_losses(model, rows, draw)


@pytest.mark.parametrize(
    ("num_heads", "shrinkage", "num_item_layers"), [(1, 3, 1), (2, 3, 1), (4, 0, 2), (1, 0, 0)]
)
def test_scores_follow_the_docstring(num_heads, shrinkage, num_item_layers):
    settings = {"shrinkage": shrinkage, "propagation": {"num_item_layers": num_item_layers}}
    settings |= {"cold_items": {"neighbor_weight": 0.0}}
    model = make(num_neighbors=3, num_heads=num_heads, **settings).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
        adjacency = torch.zeros(12, 9)
        adjacency[model.graph.user, model.graph.col] = 1
        user_degree, item_degree = adjacency.sum(1), adjacency.sum(0)
        normed = adjacency / (user_degree[:, None] * item_degree.clamp(min=1)[None]).sqrt()
        step = normed.t() @ normed
        shrunk = item_degree / (item_degree + shrinkage) if shrinkage else torch.ones(9)
        table = shrunk[:, None] * model.items.weight
        table = table + model.items.content.coordinates @ model.items.content.weight
        collaborative = (table + step @ table + step @ step @ table) / 3
        content = []
        for name in ("image", "text"):
            (source, target), weight = model.graph.similar(name)
            similar = torch.zeros(9, 9)
            similar[target, source] = weight
            smoothed = torch.linalg.matrix_power(similar, num_item_layers) @ table
            content.append(model.config.propagation.content_weight * smoothed)
        share = model.shares()
        encoder = collaborative + share[0] * content[0] + share[1] * content[1]
        rows = adjacency / user_degree.sqrt()[:, None]
        preferences = torch.stack([rows @ m for m in content], dim=1)
        gate = model.gate(preferences, share)
        preference = (gate.unsqueeze(-1) * preferences).sum(dim=1)
        hidden = model.cnet(
            rows @ encoder + preference - share @ preferences,
            torch.zeros(12, dtype=torch.long),
            rows @ collaborative,
            preference,
        )
        cosines = []
        for h, z in zip(hidden.chunk(num_heads, 1), encoder.chunk(num_heads, 1), strict=True):
            h = h / (h.square().sum(-1, keepdim=True) + 0.05**2).sqrt()
            cosines.append(h @ F.normalize(z, dim=-1).t())
        expected = torch.stack(cosines).mean(dim=0) / model.heads.log_temperature.exp() + model.bias
        torch.testing.assert_close(model(torch.arange(12)), expected)
        assert model.tables().item.norm(dim=1).max() <= 1.0001


def test_a_head_is_trained_as_if_it_were_the_only_one():
    both = make(num_heads=2, objective={"input_dropout": 0.2}).double()
    alone = make(num_heads=1, hidden_channels=4, objective={"input_dropout": 0.2}).double()
    with torch.no_grad():
        torch.nn.init.normal_(both.cnet.blocks[0].outer.weight, std=0.3)
        part = {
            name: p if p.size() == alone.get_parameter(name).size() else p[..., :4]
            for name, p in both.named_parameters()
            if "blocks" not in name
        }
        part |= {name: p[:1] for name, p in both.named_parameters() if "blocks" in name}
        for name, p in part.items():
            alone.get_parameter(name).copy_(p)
    for model in (both, alone):
        model.schedule.variance.zero_()  # no noise
    rows = both.graph.rows(torch.arange(12))
    draw = both.draw(rows, fixed())
    there = gradients(both, both.row_losses(rows, draw))
    here = gradients(alone, alone.row_losses(rows, draw._replace(noise=draw.noise[:, :4])))
    torch.testing.assert_close(2 * there["items.weight"][:, :4], here["items.weight"])
    for name, gradient in here.items():
        if "blocks" in name:
            torch.testing.assert_close(2 * there[name][:1], gradient)


def test_widths_that_cannot_be_divided_are_refused():
    message = "^LD4MRec does not accept these settings: hidden_channels=8 cannot be divided among"
    with pytest.raises(ConfigError, match=message):
        LD4MRec.from_data(random_data(30, 25), hidden_channels=8, num_heads=3)


def test_no_parameter_depends_on_the_number_of_users():
    few, many = make(num_users=12), make(num_users=120)
    assert few.num_parameters() == many.num_parameters()


def test_inference_is_one_deterministic_pass():
    model = make()
    assert all(map(torch.equal, model.recommend([0, 5], k=4), model.recommend([0, 5], k=4)))
    calls = []
    block = model.cached_tables().inference.cnet.blocks[0]
    block.register_forward_hook(lambda _, args, out: calls.append(args[1]))
    model.recommend([0, 5], k=4)
    assert calls == [0]


def test_the_reverse_chain_walks_every_step_and_is_deterministic():
    model = make(diffusion={"num_steps": 6, "noise_scale": 0.5})
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    calls = []
    block = model.cached_tables().inference.cnet.blocks[0]
    block.register_forward_hook(lambda _, args, out: calls.append(args[1]))
    first = model.recommend([0, 5], k=4, num_steps=6)
    assert calls == [6, 5, 4, 3, 2, 1]
    assert all(map(torch.equal, first, model.recommend([0, 5], k=4, num_steps=6)))
    with pytest.raises(ConfigError, match="diffuses in 6 steps; give 1 to 6"):
        model.recommend([0], k=4, num_steps=7)


def test_the_reverse_chain_equals_the_chain_on_dense_rows():
    model = make(diffusion={"num_steps": 4, "noise_scale": 0.5}).eval().double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
        tables = model.tables()
        rows = model.graph.rows(torch.arange(12))
        gram = head_blocks(tables.encoder.t() @ tables.encoder, model.config.num_heads)
        start = corrupted_rows(model.process, tables.encoder, None, rows, gram)
        # Any row with this encoding will do: the network sees encoded rows only.
        x_t = start @ torch.linalg.pinv(tables.encoder)
        found = model.user_vectors(Query(rows), tables, num_steps=4)
        torch.testing.assert_close(found, chain_on_rows(model, rows, x_t), rtol=1e-6, atol=1e-6)


def test_expected_rows_are_those_of_dense_rows():
    model = make(objective={"unobserved_weight": 0.3}).eval().double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
        encoder, rows = model.tables().encoder, model.graph.rows(torch.arange(12))
        smoothing = torch.randn(9, 8, generator=fixed()).double()
        hidden = torch.randn(12, 8, generator=fixed()).double()
        found = ExpectedRows(model.reconstruction, encoder, smoothing, rows, 4)(hidden)
        observed = dense_rows(rows, 9, torch.float64)
        score = model.reconstruction.scale / 4 * hidden @ encoder.t() + model.reconstruction.bias
        row = torch.where(observed > 0, 1, PREDICTED * 0.3 * score)
        count = (row * (1 - observed)).sum(dim=1).clamp(min=0) + observed.sum(dim=1)
        row = row / count.sqrt()[:, None]
        assert (count > observed.sum(dim=1)).any()
        torch.testing.assert_close(found.values, row @ encoder, rtol=1e-9, atol=1e-9)
        smoothed = row @ (encoder + smoothing)
        torch.testing.assert_close(found.smoothed, smoothed, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("diffusion", PROCESSES, ids=str)
def test_the_reverse_chain_of_every_process_has_as_many_passes_as_asked_for(diffusion):
    model = make(diffusion={"num_steps": 9, **diffusion}, num_items=20).eval()
    calls = []
    block = model.cached_tables().inference.cnet.blocks[0]
    block.register_forward_hook(lambda _, args, out: calls.append(args[1]))
    found = {n: model.recommend([0, 5], k=4, num_steps=n)[1] for n in (1, 3, 9)}
    assert calls == [9, 9, 5, 1, *range(9, 0, -1)]
    assert all(scores.isfinite().all() for scores in found.values())


def fixed():
    return torch.Generator().manual_seed(0)


def test_the_gate_sums_to_one_over_the_modalities_of_a_user():
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


def test_global_weights_follow_the_agreement_of_users():
    model = make(gated=False, num_users=30).eval()
    torch.testing.assert_close(model.shares(), torch.tensor([1 / 3, 2 / 3]))
    share = model.modality_preference(torch.arange(30))
    had = model.graph.user_degree() > 0
    torch.testing.assert_close(share["image"][had], torch.full((int(had.sum()),), 1 / 3))
    assert make(modality_shares="equal").shares().tolist() == [0.5, 0.5]
    assert make(content_rank=0).shares().tolist() == [0.5, 0.5]
    unread = LD4MRec.from_data(random_data(features=FEATURES), hidden_channels=8)
    assert unread.shares().tolist() == [0.5, 0.5]
    unread.start_epoch(fixed())
    expected = unread.items.content.agreement.clamp(min=1e-6)
    torch.testing.assert_close(unread.shares(), expected / expected.sum())


def test_data_without_modalities():
    model = make(features={})
    assert model.modality_preference(0) == {}
    assert model.recommend(0, k=3)[0].shape == (1, 3)


def test_an_item_without_interactions_is_scored_by_its_content():
    settings = {"num_neighbors": 3, "content_rank": 0, "cold_items.neighbor_weight": 0.0}
    model = make(num_users=40, num_items=30, features={"image": 6}, **settings).eval()
    cold = 29
    assert model.graph.item_degree()[cold] == 0
    with torch.no_grad():
        before = model.tables().item[cold]
        assert before.norm() == pytest.approx(1.0)
        # Its direction is that of its neighbours.
        (source, target), _ = model.graph.similar("image")
        near = source[target == cold]
        degree = model.graph.item_degree()[near].float()
        expected = (degree / (degree + 3)) @ model.items.weight[near]
    torch.testing.assert_close(before, normalize_heads(expected, model.config.num_heads))


def test_rows_without_visible_items_have_finite_gradients():
    model = make(objective={"input_dropout": 0.99})
    loss = model.loss(torch.arange(12), fixed())
    assert loss.isfinite()
    norms = [grad.norm() for grad in gradients(model, loss).values()]
    assert torch.stack(norms).max() < 1e3


def test_a_batch_without_interactions():
    graph = RecGraph(torch.tensor([0, 0, 1]), torch.tensor([0]), num_items=2)
    model = LD4MRec(LD4MRec.configure(hidden_channels=4), graph)
    model.loss(torch.tensor([0]), fixed()).backward()
    items, scores = model.recommend([0], k=2)
    assert sorted(items[0].tolist()) == [0, 1]
    assert scores.isfinite().all()


def test_repr_shows_the_sizes():
    assert str(make()).startswith("LD4MRec(12, 9, hidden_channels=8, parameters=")


def test_mixed_precision_keeps_the_loss():
    model = make(num_users=40, num_items=30, hidden_channels=16)
    rows = model.graph.rows(torch.arange(40))
    draw = model.draw(rows, fixed())
    expected = model.row_losses(rows, draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.row_losses(rows, draw)
    losses.mean().backward()
    torch.testing.assert_close(losses.float(), expected, rtol=0.02, atol=0.02)
    assert model.items.weight.grad.isfinite().all()


def test_parts_of_training_can_be_switched_off():
    generator = torch.Generator().manual_seed(0)
    still = make(diffusion={"enabled": False})
    draw = still.draw(still.graph.rows(torch.arange(12)), generator)
    assert (draw.t == 0).all()
    assert (draw.step_weight == 1).all()
    for by_importance in (True, False):
        model = make(diffusion={"importance_sampling": by_importance})
        model.steps.update(torch.tensor([1]), torch.tensor([100.0]))
        assert (model.steps.probability.unique().numel() == 1) != by_importance
    for gated in (True, False):
        model = make(gated=gated)
        model.loss(torch.arange(12), generator).backward()
        assert (model.gate.weight.grad is None) != gated


def test_settings_of_groups_are_saved_and_read_again(tmp_path):
    settings = {"objective.visible_weight": 0.3, "diffusion": {"num_steps": 3}}
    model = make(modality_shares="equal", **settings).eval()
    model.save_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.config.objective.visible_weight == 0.3
    assert again.schedule.num_steps == 3
    assert torch.equal(again(torch.arange(12)), model(torch.arange(12)))


def test_every_searched_setting_exists():
    for name, values in LD4MRec.search_space().items():
        for value in values:
            config = LD4MRec.configure(**{name: value})
            for part in name.split("."):
                config = getattr(config, part)
            assert config == value


def test_an_item_without_interactions_is_embedded_by_its_features():
    model = make(
        num_users=40, num_items=30, features={"image": 6}, **{"propagation.content_weight": 0.0}
    ).eval()
    with torch.no_grad():
        model.items.content.weight.normal_()
    assert model.graph.item_degree()[29] == 0
    content = model.items.content()[29] / (1 + model.config.propagation.num_layers)
    torch.testing.assert_close(model.tables().encoder[29], content)
