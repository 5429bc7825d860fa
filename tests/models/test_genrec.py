"""GenRec against its equations, with dense rows and matrices in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import GenRec
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.self_looped_graph import self_looped_interactions
from graphdiff.models.genrec.flip_diffusion import Block, calibrated, flip_rates, focal_loss
from tests.conftest import random_data
from tests.models.dense import bpr, info_nce, interactions, looped, similarity

SMALL = {"hidden_channels": 4, "num_neighbors": 4, "denoiser_channels": 6, "denoiser_blocks": 2}


def seed(value):
    return torch.Generator().manual_seed(value)


def make(data, **settings):
    torch.manual_seed(0)
    model = GenRec.from_data(data, **{**SMALL, **settings})
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    model.start_epoch(seed(0))
    return model


def normalized(layer, x, has):
    """Return a layer's output, with statistics of the rows that exist."""
    x = x @ layer.weight.t()
    mean, variance = x[has].mean(0), x[has].var(0, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * layer.scale + layer.shift


def dense_content(model, data, dropped=lambda x: x):
    """Return the projected features of each modality, ``[I, d]``."""
    found = []
    for name, view in model.views.items():
        x, has = data["item"][f"x_{name}"], data["item"][f"has_{name}"]
        first = dropped(F.leaky_relu(normalized(view.first, x, has), 0.2))
        second = dropped(F.leaky_relu(normalized(view.second, first, has), 0.2))
        found.append((model.residual * first + second) * has[:, None])
    return found


def dense_embeddings(model, data, dropped=lambda x: x):
    """Return content and side embeddings of all nodes."""
    num_users, num_layers = model.num_users, model.config.num_layers
    user, item = model.user_embedding.weight, model.item_embedding.weight
    main = looped(model, model.graph.user, model.graph.col)
    pairs = [(u, i) for u, row in enumerate(model.chosen.tolist()) for i in row if i >= 0]
    new = looped(model, *torch.tensor(pairs).t())
    share = model.graph_weight.exp() / model.graph_weight.exp().sum()
    content = 0
    for weight, matrix in zip(share, (main, new), strict=True):
        for n in range(num_layers + 1):
            layer = torch.linalg.matrix_power(matrix, n) @ torch.cat([user, item])
            content = content + weight * layer / (num_layers + 1)

    views, has = [], []
    for (name, view), z in zip(
        model.views.items(), dense_content(model, data, dropped), strict=True
    ):
        own = data["item"][f"has_{name}"]
        smooth = item * normalized(view.gate, z, own).sigmoid()
        smooth = torch.linalg.matrix_power(similarity(data, name, 4), num_layers) @ smooth
        views.append(torch.cat([main[:num_users, num_users:] @ smooth, smooth]))
        has.append(torch.cat([interactions(model) @ own.float() > 0, own]))
    weight = [
        own * model.attention_score(normalized(model.attention, view, own).tanh()).squeeze(1).exp()
        for view, own in zip(views, has, strict=True)
    ]
    total = sum(weight)
    shared = sum(
        torch.where(total > 0, w / total, 0)[:, None] * view
        for w, view in zip(weight, views, strict=True)
    )
    side, everyone = shared, torch.ones(len(content), dtype=torch.bool)
    for layers, view, own in zip(model.views.values(), views, has, strict=True):
        gate = normalized(layers.gate, content, everyone).sigmoid()
        side = side + gate * own[:, None] * (view - shared)
    return content, side / (1 + sum(own.float() for own in has)[:, None])


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_scores_follow_the_equations(names, num_layers):
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data, num_generated=2, num_layers=num_layers)
    content, side = dense_embeddings(model, data)
    user, item = (content + side).split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_loss_and_gradients_follow_the_equations(multimodal_data, p):
    model = make(
        multimodal_data, dropout=p, edge_keep=1.0, regularization=0.1, contrastive=0.5,
        pair_contrastive=0.3, temperature=0.4,
    )  # fmt: skip
    batch, draw = torch.tensor([0, 5, 7, 1, 12, 5]), seed(3)
    loss = model.loss(batch, seed(3))

    user, positive = model.graph.user[batch], model.graph.col[batch]
    negative = sample_negatives(model.graph, user, draw)

    def dropped(x):
        return x * (torch.rand(x.shape, generator=draw) >= p) / (1 - p) if p else x

    content, side = dense_embeddings(model, multimodal_data, dropped)
    final, item = content + side, positive + 12
    expected = bpr(final[user], final[item], final[negative + 12])
    weights = (model.user_embedding.weight, model.item_embedding.weight)
    expected = expected + 0.1 * sum(weight.square().sum() for weight in weights)
    for nodes in (user, item):
        expected = expected + 0.5 * info_nce(side[nodes], content[nodes], 0.4).mean()
    for view in (content, side):
        expected = expected + 0.3 * info_nce(final[user], view[item], 0.4).mean()
    torch.testing.assert_close(loss, expected)

    names = [n for n, _ in model.named_parameters() if not n.startswith("diffusion")]
    parameters = [model.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(loss, parameters)
    for name, found, wanted in zip(
        names, gradients, torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5, msg=name)
        assert found.any(), name


def test_rates_and_flips():
    gamma = torch.linspace(0.1 * 0.3 + 0.001, 0.1 * (0.1 * 0.3 + 0.001), 4)
    epsilon = torch.linspace(0.005 * 0.7 + 0.0001, 0.1 * (0.005 * 0.7 + 0.0001), 4)
    rates = flip_rates(0.3, 4)
    for found, step in zip(rates, (gamma, epsilon), strict=True):
        flipped = [0.0]
        for rate in step.tolist():  # Either an earlier step flipped the entry, or this one does.
            flipped.append(flipped[-1] + (1 - flipped[-1]) * rate)
        torch.testing.assert_close(found, torch.tensor(flipped))

    diffusion = make(random_data(features={"image": 5})).diffusion
    diffusion.rates = torch.tensor([[0.0, 0.1, 0.3], [0.0, 0.2, 0.4]])
    x = torch.tensor([0.0, 1.0, 0.5]).expand(3, 20_000, 3).flatten(1)
    flips = diffusion.flip(x, torch.arange(3), seed(0)).float().view(3, -1, 3).mean(1)
    expected = torch.tensor([[0.0, 1.0, 0.5], [0.1, 0.8, 0.45], [0.3, 0.6, 0.45]])
    torch.testing.assert_close(flips, expected, rtol=0, atol=0.02)
    assert torch.equal(flips[0, :2], expected[0, :2])


def network(diffusion, x, t):
    """Return the logits of dense rows."""
    angle = (t - 1)[:, None] * 10_000.0 ** (-torch.arange(5) / 5)
    signal = diffusion.time(torch.cat([angle.cos(), angle.sin()], dim=1))
    hidden = x @ diffusion.encoder + diffusion.time_encoder(signal)
    shift, scale = diffusion.modulate(signal * signal.sigmoid()).tensor_split(2, dim=1)
    hidden = hidden * (1 + scale) + shift
    for block in diffusion.blocks:
        hidden = block.norms[0](hidden + block.mix(hidden))
        hidden = block.norms[1](hidden + block.outer(block.inner(hidden).relu()))
    return diffusion.decoder(F.gelu(diffusion.norm(diffusion.narrow(hidden))))


def test_the_network_follows_its_equations(multimodal_data):
    diffusion = make(multimodal_data).diffusion
    x, t = interactions(make(multimodal_data)), torch.arange(12) % 5 + 1
    torch.testing.assert_close(diffusion(x.bool(), t), network(diffusion, x, t))
    dropped = [diffusion(x.bool(), t, seed(n)) for n in (0, 0, 1)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])


def test_a_block_is_a_transformer_layer_on_one_token():
    torch.manual_seed(0)
    layer = torch.nn.TransformerDecoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    block = Block(8)
    with torch.no_grad():
        value, bias = layer.self_attn.in_proj_weight[16:], layer.self_attn.in_proj_bias[16:]
        out = layer.self_attn.out_proj
        block.mix.weight.copy_(out.weight @ value)
        block.mix.bias.copy_(out.weight @ bias + out.bias)
        for own, theirs in ((block.inner, layer.linear1), (block.outer, layer.linear2)):
            own.load_state_dict(theirs.state_dict())
        for own, theirs in ((block.norms[0], layer.norm1), (block.norms[1], layer.norm3)):
            own.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 8)
    expected = layer(x.unsqueeze(1), torch.zeros(5, 1, 8)).squeeze(1)
    torch.testing.assert_close(block(x), expected, rtol=1e-3, atol=1e-4)


def test_calibration_recovers_the_probability_that_minimises_the_loss():
    logit = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    for chance, zeros_per_one in ((0.001, 999.0), (0.2, 4.0), (0.7, 3.0), (0.02, 262.0)):
        loss = [
            torch.stack([focal_loss(y, torch.full_like(y, x), zeros_per_one) for y in logit[::400]])
            for x in (0.0, 1.0)
        ]
        p = logit[::400].sigmoid()
        torch.testing.assert_close(loss[0], -0.75 * p**2 * (1 - p).log())
        torch.testing.assert_close(loss[1], -0.25 * zeros_per_one * (1 - p) ** 2 * p.log())
        p = logit.sigmoid()
        risk = chance * 0.25 * zeros_per_one * (1 - p) ** 2 * -p.log()
        best = (risk - (1 - chance) * 0.75 * p**2 * (1 - p).log()).argmin()
        found = calibrated(logit[best], zeros_per_one).item()
        assert found == pytest.approx(chance, rel=2e-3)
    extreme = calibrated(torch.tensor([-1e4, 1e4], requires_grad=True), 262.0)
    assert extreme[0] < 1e-12 < 1 - 1e-6 < extreme[1]


def test_the_denoising_loss_follows_its_equations(multimodal_data, monkeypatch):
    monkeypatch.setattr("graphdiff.models.genrec.flip_diffusion.DROPOUT", 0.0)
    model, users, draw = make(multimodal_data), torch.tensor([3, 0, 7]), seed(5)
    diffusion, content = model.diffusion, model.row_content()
    for found, z in zip(content, dense_content(model, multimodal_data), strict=True):
        torch.testing.assert_close(found, model.item_embedding.weight * z)
    assert not content[0][3].any()  # It has no image.
    loss = diffusion.loss(model.graph.rows(users), content, 0.3, seed(5))

    x_0 = interactions(model)
    ones, x_0 = x_0.mean().item(), x_0[users]
    t = torch.randint(1, 6, (3,), generator=draw)
    insert, remove = flip_rates(ones, 5)[:, t].unsqueeze(-1)
    chance = torch.rand(3, 9, generator=draw)
    x_t = torch.where(x_0 > 0, chance < 1 - remove, chance < insert).float()
    logit = network(diffusion, x_t, t)
    p, ratio = logit.sigmoid(), (1 - ones) / ones
    focal = -0.25 * ratio * x_0 * (1 - p) ** 2 * p.log()
    expected = (focal - 0.75 * (1 - x_0) * p**2 * (1 - p).log()).mean()
    predicted = calibrated(logit, ratio)
    for table in content:
        expected = expected + 0.3 * info_nce(x_0 @ table, predicted @ table, 0.2).mean()
    torch.testing.assert_close(loss, expected)
    parameters = list(diffusion.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters, retain_graph=True),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
        assert found.any()
    others = [p for n, p in model.named_parameters() if not n.startswith("diffusion")]
    gradients = torch.autograd.grad(loss, others, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


@pytest.mark.parametrize("num_replaced", [0, 4, 20])
def test_generated_items_are_those_of_the_chain(multimodal_data, num_replaced):
    model = make(multimodal_data)
    diffusion, rows = model.diffusion, model.graph.rows(torch.arange(12))
    found = diffusion.generate(rows, num_replaced, 3, seed(4))
    x_0, draw = interactions(model), seed(4)
    ratio = (1 - x_0.mean().item()) / x_0.mean().item()

    def sample(x, step):
        insert, remove = diffusion.rates[:, step]
        chance = torch.rand(x.shape, generator=draw)
        return (chance < insert * (1 - x) + (1 - remove) * x).float()

    x = sample(x_0, 5)
    for step in (5, 4, 3, 2, 1):
        predicted = calibrated(network(diffusion, x, torch.full((12,), step)), ratio)
        x = sample(predicted, step - 1)
    for user in range(12):
        ranked = predicted[user].argsort(descending=True).tolist()
        row = {item: x_0[user, item] for item in ranked}
        row.update({item: x[user, item] for item in ranked[:num_replaced]})
        wanted = [item for item in ranked if row[item]][:3]
        assert found[user].tolist() == wanted + [-1] * (3 - len(wanted))


def test_the_chain_draws_what_the_denoiser_has_learned():
    # Users have items of one half of the catalogue.
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.rand(60, 20, generator=generator) < 0.4) & (
        torch.arange(60)[:, None] % 2 == torch.arange(20)[None] % 2
    )
    data = random_data(60, 20, {"image": 5})
    data["user", "interacts", "item"].edge_index = pairs.nonzero().t().contiguous()
    torch.manual_seed(0)
    model = GenRec.from_data(
        data, hidden_channels=8, denoiser_channels=32, denoiser_blocks=1, batch_size=10,
        num_replaced=20, lr=5e-3,
    )  # fmt: skip
    for _ in range(60):
        model.start_epoch(generator)
    rows = model.graph.rows(torch.arange(60))
    drawn = model.diffusion.generate(rows, 20, 20, generator)
    user, place = (drawn >= 0).nonzero(as_tuple=True)
    assert user.unique().numel() > 50
    item = drawn[user, place]
    assert (item % 2 == user % 2).float().mean() > 0.8
    assert 0.1 < (1 - interactions(model)[user, item]).mean() < 0.9  # new items as well


def test_the_graph_of_an_epoch_and_that_of_inference(multimodal_data):
    model = make(multimodal_data, edge_keep=0.3)
    again = make(multimodal_data, edge_keep=0.3)
    assert torch.equal(model.chosen, again.chosen)
    batch, users = torch.arange(6), torch.arange(12)
    assert torch.equal(model.loss(batch, seed(1)), again.loss(batch, seed(1)))
    scores = model(users)
    model._dropped = None
    assert not torch.equal(model.loss(batch, seed(1)), again.loss(batch, seed(1)))
    assert torch.equal(model(users), scores)
    model.reset_parameters()
    assert (model.chosen == -1).all()


def test_a_user_without_items_an_item_and_a_modality_without_rows():
    data = random_data(features={"image": 5, "text": 5})
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 1, 2]])
    data["item"].has_image[:] = data["item"].has_text[3] = False
    data["item"].x_image[:] = data["item"].x_text[3] = 0
    model = make(data, num_replaced=0, num_generated=3)
    assert (model.chosen[2:] == -1).all()
    assert model.chosen[0].sort().values.tolist() == [-1, -1, 0]
    batch = torch.arange(3)
    loss = model.loss(batch, seed(0))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model(torch.arange(12)).isfinite().all()
    graph = model.graph.cached(self_looped_interactions)
    expected = looped(model, model.graph.user, model.graph.col)
    torch.testing.assert_close(graph.matrix.to_dense(), expected)


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="GenRec needs at least one modality"):
        GenRec.from_data(plain_data)


def test_a_loss_that_is_not_finite_is_reported(multimodal_data):
    model = make(multimodal_data)
    torch.nn.init.constant_(model.diffusion.decoder.weight, torch.nan)
    with pytest.raises(
        GraphDiffError, match="the loss of the denoiser became nan; lower the learning"
    ):
        model.start_epoch(seed(0))
