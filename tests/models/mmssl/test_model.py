"""MMSSL against its paper's equations, with dense rows and matrices."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import MMSSL
from graphdiff.errors import ConfigError
from tests.conftest import random_data

STILL = {"dropout": 0.0, "critic_dropout": (0.0, 0.0), "gumbel_noise": 0.0}


def seed(value):
    return torch.Generator().manual_seed(value)


def make(data, **settings):
    torch.manual_seed(0)
    settings = {"hidden_channels": 4, "num_heads": 2, "critic_channels": 6, **settings}
    model = MMSSL.from_data(data, **settings)
    model.start_epoch(seed(0))
    return model


def both_ways(model, user, item):
    adjacency = torch.zeros(model.num_users, model.num_items)
    adjacency[user, item] = 1
    to_user = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1).sqrt()
    to_item = adjacency.t() / adjacency.sum(0)[:, None].clamp(min=1).sqrt()
    return to_user, to_item


def observed(model):
    return both_ways(model, model.graph.user, model.graph.col)


def attend(model, views):
    heads = model.config.num_heads
    width = model.config.hidden_channels // heads
    out = []
    for one in views:
        mixed = []
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            query = one @ model.query_projection.weight[own].t()
            keys = [other @ model.key.weight[own].t() for other in views]
            logit = torch.stack([(query * key).sum(1) for key in keys]) / width**0.5
            share = logit.exp() / logit.exp().sum(0)
            mixed.append(sum(s[:, None] * other for s, other in zip(share, views, strict=True)))
        out.append(torch.cat(mixed, dim=1) @ model.mix.weight.t())
    return sum(out) / len(out)


def dense(model, data):
    """Return final embeddings, propagated features, and modality-aware embeddings of users."""
    config = model.config
    users, items = model.user_embedding.weight, model.item_embedding.weight
    to_user, to_item = observed(model)
    content, views_u, views_i = [], [], []
    for n, name in enumerate(model.graph.modalities):
        linear = model.project[name]
        x = data["item"][f"x_{name}"] @ linear.weight.t() + linear.bias
        x = x * data["item"][f"has_{name}"][:, None]
        content.append((to_user @ x, to_item @ to_user @ x))
        user = torch.arange(model.num_users).repeat_interleave(model.chosen.size(2))
        there = model.chosen[n].flatten() >= 0
        learned = both_ways(model, user[there], model.chosen[n].flatten()[there])
        views_u.append(learned[0] @ items)
        views_i.append(learned[1] @ users)
    user = users + config.identity_weight * F.normalize(attend(model, views_u))
    item = items + config.identity_weight * F.normalize(attend(model, views_i))
    all_users, all_items = [user], [item]
    for _ in range(config.num_layers):
        all_users.append(to_user @ all_items[-1])
        all_items.append(to_item @ all_users[-1])
    user, item = sum(all_users) / len(all_users), sum(all_items) / len(all_items)
    for f_user, f_item in content:
        user = user + config.content_weight * F.normalize(f_user)
        item = item + config.content_weight * F.normalize(f_item)
    return (user, item), content, views_u


@pytest.mark.parametrize("num_layers", [0, 2])
def test_scores_follow_the_paper(multimodal_data, num_layers):
    model = make(multimodal_data, num_layers=num_layers, num_generated=2)
    user, item = dense(model, multimodal_data)[0]
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def similarities(model, user, item):
    score = user @ item.t() * (observed(model)[0] == 0)
    return score / score.norm(dim=1, keepdim=True).clamp(min=1e-12)


def test_loss_follows_the_paper(multimodal_data):
    model = make(
        multimodal_data,
        **STILL,
        regularization=0.1,
        feature_regularization=0.2,
        contrast=0.3,
        temperature=0.4,
        adversarial=0.05,
    )
    anchor = torch.arange(0, 12, 2)
    loss = model.loss(anchor, seed(3))
    # The critic is updated before it is used.
    (users, items), content, views = dense(model, multimodal_data)
    positive, negative = model._items_of(anchor, seed(3))
    of_batch = (users[anchor], items[positive], items[negative])
    difference = (of_batch[0] * (of_batch[1] - of_batch[2])).sum(-1)
    expected = -F.logsigmoid(difference).mean()
    expected = expected + 0.1 * sum(x.square().sum() for x in of_batch) / (2 * len(anchor))
    square = sum(x.square().sum() for pair in content for x in pair)
    expected = expected + 0.2 * square / (2 * model.num_items)

    for view in views:
        a, b = view[anchor], users[anchor]
        between = (F.cosine_similarity(a[:, None], b[None], dim=-1) / 0.4).exp()
        within = (F.cosine_similarity(a[:, None], a[None], dim=-1) / 0.4).exp()
        whole = between.sum(1) + within.sum(1) - within.diag()
        expected = expected - 0.3 * (between.diag() / whole).log().mean()

    fake = torch.cat([similarities(model, *pair)[anchor] for pair in content])
    critic = model.critic(fake @ model.critic.encoder, seed(0))
    expected = expected - 0.05 * critic.mean()

    torch.testing.assert_close(loss, expected)
    parameters = [p for n, p in model.named_parameters() if not n.startswith("critic")]
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        assert found.any()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_critic_is_trained_first_on_the_papers_rows(multimodal_data):
    model = make(multimodal_data, **STILL, gumbel_temperature=0.7, collaborative_scale=2.0)
    seen = []
    model.critic_optimizer.step = seen.append
    model.loss(torch.arange(12), seed(3))

    (users, items), content, _ = dense(model, multimodal_data)
    soft = ((observed(model)[0] > 0).float() / 0.7).softmax(dim=1)
    real = F.normalize(soft + 2.0 * similarities(model, users, items)).repeat(2, 1)
    fake = torch.cat([similarities(model, *pair) for pair in content])
    draw = seed(3)
    model._items_of(torch.arange(12), draw)
    torch.rand(12, 9, generator=draw)  # the Gumbel noise, here of scale 0
    table = model.critic.encoder
    expected = model.critic.loss(real.detach() @ table, fake.detach() @ table, 0.3, draw)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(seen[0], list(parameters.values()), allow_unused=True)
    for name, grad in zip(parameters, grads, strict=True):
        assert (grad is not None) == name.startswith("critic"), name


def test_the_loss_updates_the_critic_and_clears_its_gradients(multimodal_data):
    model = make(multimodal_data)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.loss(torch.arange(9), seed(0)).backward()
    for name, p in model.named_parameters():
        if name.startswith("critic"):
            assert p.grad is None
            assert not torch.equal(p, before[name]), name
        else:
            assert torch.equal(p, before[name])


def test_learned_neighbours_are_the_most_similar_unseen_items():
    data = random_data(30, 20, {"image": 6, "text": 5}, density=0.4)
    model = make(data, num_generated=3)
    _, content, _ = dense(model, data)
    for chosen, (user, item) in zip(model.chosen, content, strict=True):
        score = (user @ item.t()).masked_fill(observed(model)[0] > 0, -torch.inf)
        assert torch.equal(chosen, score.topk(3).indices)


def test_a_user_without_a_modality_has_no_learned_neighbours():
    data = random_data(features={"image": 6, "text": 5})
    lone = data["user", "interacts", "item"].edge_index
    lacking = lone[1, lone[0] == 0]
    data["item"].has_image[lacking] = False
    data["item"].x_image[lacking] = 0
    model = make(data)
    assert model.chosen[0, 0].eq(-1).all()
    assert model.chosen[1, 0].ge(0).all()
    loss = model.loss(torch.arange(12), seed(0))
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() and grad.abs().max() < 1e3 for grad in grads)


@pytest.mark.parametrize("names", [["image"], ["audio", "image", "text"]])
def test_any_number_of_modalities(names):
    model = make(random_data(features=dict.fromkeys(names, 5)))
    model.loss(torch.arange(9), seed(0)).backward()
    assert all(model.project[name].weight.grad.any() for name in names)


def test_positives_are_sampled_from_the_whole_history(multimodal_data):
    model = make(multimodal_data)
    drawn = {user: set() for user in range(12)}
    for value in range(100):
        positive, negative = model._items_of(torch.arange(12), seed(value))
        for user in range(12):
            drawn[user].add(positive[user].item())
        assert not (observed(model)[0][torch.arange(12), negative] > 0).any()
    assert drawn == {
        user: set(model.graph.rows(torch.tensor([user])).item.tolist()) for user in drawn
    }


def test_batches_of_one_user_and_of_users_without_items():
    data = random_data(features={"image": 5})
    store = data["user", "interacts", "item"]
    store.edge_index = store.edge_index[:, store.edge_index[0] != 4]
    model = make(data)
    assert model.loss(torch.tensor([0]), seed(0)).isfinite()
    loss = model.loss(torch.tensor([4]), seed(0))
    loss.backward()
    assert loss == 0


def test_masked_features_are_not_read(multimodal_data):
    model = make(multimodal_data)
    scores = model(torch.arange(12))
    model.graph.x_image[3] = 1e3
    assert torch.equal(model(torch.arange(12)), scores)


def test_a_saved_model_keeps_its_graphs(multimodal_data, tmp_path):
    model = make(multimodal_data)
    model.save_pretrained(tmp_path)
    assert torch.equal(MMSSL.from_pretrained(tmp_path).chosen, model.chosen)


def test_invalid_settings_are_rejected(multimodal_data, plain_data):
    with pytest.raises(ConfigError, match="not a multiple of num_heads=3"):
        MMSSL.from_data(multimodal_data, hidden_channels=4, num_heads=3)
    with pytest.raises(ConfigError, match="MMSSL needs at least one modality"):
        MMSSL.from_data(plain_data)
