"""``model.update``: new users, items and interactions, and training on them."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from graphdiff import evaluate
from graphdiff.datasets import from_frame
from graphdiff.errors import ConfigError, DataError, TrainingError
from graphdiff.models import MODELS
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.schema import build_data
from graphdiff.training.update import saved_state
from tests.conftest import make_model, random_data
from tests.updates.samples import (
    FEATURES,
    NEW,
    SETTINGS,
    WIDTHS,
    contents,
    frame,
    interactions,
    trained,
)


def pairs(frame):
    return set(zip(frame.user.tolist(), frame.item.tolist(), strict=True))


def test_an_update_takes_in_users_items_and_pairs_and_keeps_ids():
    model = trained()
    before, ids = interactions(model), list(model.catalogue.item_ids)
    result = model.update(NEW, FEATURES, passes=2)
    assert interactions(model) == before | pairs(NEW)
    assert model.catalogue.item_ids == [*ids, "bare item", "new item"]
    assert model.catalogue.user_ids[30:] == ["new user", "other user"]
    assert (result.users, result.items) == (2, 2)
    assert result.interactions == len(pairs(NEW) - before)
    assert result.steps == 2
    assert not model.training
    image, has = model.graph.features("image")
    assert has[25:].tolist() == [False, True]
    assert image[26].tolist() == list(range(6))
    items, scores = model.recommend(user_id=["new user", "u5"], k=27, exclude_seen=False)
    assert items.sort(dim=1).values.tolist() == [list(range(27))] * 2
    assert scores.isfinite().all()
    found = model.recommend(history=["new item", "i3"], k=5)[0]
    assert not {26, 3} & set(found[0].tolist())


def test_new_items_of_an_update_have_titles():
    model = trained()
    details = pd.DataFrame(
        {"item": ["new item", "i3", "none"], "title": ["Blue mug", "Red mug", "Cup"]}
    )
    model.update(NEW, FEATURES, details=details, passes=1)
    assert model.catalogue.details.of(26) == {"title": "Blue mug"}
    assert model.catalogue.details.of(25) == model.catalogue.details.of(3) == {}
    shown = model.recommend_frame(histories=[["i4"]], k=2, candidates=["bare item", "new item"])
    titles = dict(zip(shown["item"], shown["title"], strict=True))
    assert titles == {"bare item": "", "new item": "Blue mug"}


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (pd.DataFrame({"item": ["new item"] * 2, "title": ["a", "b"]}), "more than one row"),
        (pd.DataFrame({"item": ["new item"], "name": ["a"]}), "at least one of title"),
        (["a"], "the frame is of type list"),
    ],
)
def test_details_that_do_not_fit_change_nothing(details, message):
    model = trained()
    before = contents(model)
    with pytest.raises(DataError, match=message):
        model.update(NEW, FEATURES, details=details)
    assert contents(model) == before


def test_an_update_trains_on_the_new_pairs():
    model = trained(num_users=60, num_items=40, lr=0.01)
    worst = int(model(torch.arange(60)).mean(dim=0).argmin())
    model.update(frame(*[(f"u{n}", f"i{worst}") for n in range(50)]), passes=20)
    score = model(torch.arange(60)).mean(dim=0)
    assert (score > score[worst]).sum() < 10


def test_weights_change_by_training_alone():
    model = trained()
    whole = model.items.weight.detach().clone()
    known = sorted(interactions(model))[:5]
    model.update(frame(*known))
    assert torch.equal(model.items.weight, whole)
    model.update(frame(("u0", "i0"), ("u0", "i1"), ("u0", "i2"), ("u0", "i3")))
    assert not torch.equal(model.items.weight, whole)


def test_the_same_interactions_twice_change_nothing():
    model = trained()
    first = model.update(NEW, FEATURES)
    before = contents(model)
    again = model.update(NEW, FEATURES, state=first.state)
    assert (again.users, again.items, again.interactions, again.steps) == (0, 0, 0, 0)
    assert contents(model) == before
    assert all(torch.equal(again.state[name], value) for name, value in first.state.items())


def test_the_same_seed_gives_the_same_update():
    models = [trained() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        torch.randn(seed + 3)  # An update does not depend on the global generator.
        model.update(NEW, FEATURES, seed=seed)
    assert contents(models[0]) == contents(models[1]) != contents(models[2])


def test_an_update_leaves_the_global_generator_alone():
    model = trained()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.update(NEW)
    assert torch.equal(torch.rand(3), expected)


def test_the_optimizer_continues_from_its_state():
    steady, fresh = trained(), trained()
    state = steady.update(NEW, FEATURES, passes=10).state
    fresh.update(NEW, FEATURES, passes=10)
    assert state["items.weight/step"].item() == 10
    after = steady.update(
        frame(("u3", "i9"), ("u3", "i8"), ("u9", "later")), state=state, passes=10
    ).state
    fresh.update(frame(("u3", "i9"), ("u3", "i8"), ("u9", "later")), passes=10)
    assert after["items.weight/step"].item() == 20
    assert after["items.weight/exp_avg"].shape == steady.items.weight.shape
    assert not torch.equal(steady.items.weight, fresh.items.weight)


def test_without_raw_ids_indices_become_ids():
    model = trained(ids=False)
    model.update(frame((0, 3), (31, 3), (2, 40)))
    assert model.catalogue.user_ids == [*range(30), 31]
    assert model.catalogue.item_ids == [*range(25), 40]
    assert (2, 40) in interactions(model)
    model.update(frame(("0", "40")))  # Ids are compared by their text.
    assert (0, 40) in interactions(model)
    assert model.num_users == 31


def test_a_known_catalogue_without_ids_stays_without():
    model = trained(ids=False)
    model.update(frame((0, 3), (1, 4)))
    assert model.catalogue.user_ids is None
    assert model.catalogue.item_ids is None


def test_items_with_features_alone_are_recommended_on_their_first_day():
    model = trained()
    image, _ = model.graph.features("image")
    copies = {"image": (["twin"], image[3:4])}
    result = model.update(frame(), copies)
    assert (result.items, result.steps) == (1, 0)
    best = model.similar_items(item_id="i3", k=3)[0][0].tolist()
    assert model.num_items - 1 in best


def test_the_bias_of_cold_items_follows_what_users_choose():
    biases, places = {}, {}
    for users in (0, 5, 60):
        model = trained(num_users=60, num_items=200)
        generator = torch.Generator().manual_seed(0)
        ids = [f"fresh {n}" for n in range(60)]
        x = {
            name: (ids, torch.randn(60, width, generator=generator))
            for name, width in WIDTHS.items()
        }
        model.update(frame(), x)
        with torch.no_grad():
            model.cold_items.bias.zero_()
            model.bias[:200] += 1  # Cold items rank too low.
        model.invalidate_tables()
        chosen = [(f"u{n}", ids[(n + shift) % 30]) for n in range(users) for shift in range(3)]
        model.update(frame(*chosen), passes=1)
        biases[users] = model.cold_items.bias.item()
        items, _ = model.recommend(torch.arange(60), k=20)
        places[users] = (items >= 230).float().mean().item()  # Nobody has chosen these.
    assert 0 == biases[0] < biases[5] < biases[60]
    assert places[60] > places[0]


def test_new_interactions_are_looked_at_before_they_are_learned(monkeypatch):
    model, seen = trained(), []

    def before_update(self, pairs):
        seen.append((self.num_users, self.num_items, interactions(self), pairs.t().tolist()))

    monkeypatch.setattr(LD4MRec, "before_update", before_update)
    before = interactions(model)
    model.update(NEW, FEATURES, passes=1)
    model.update(NEW, FEATURES, passes=1)  # Holds nothing new.
    (num_users, num_items, graph, new), *rest = seen
    assert not rest
    assert (num_users, num_items, graph) == (32, 27, before)
    name = model.catalogue
    assert {(name.user_id(u), name.item_id(i)) for u, i in new} == pairs(NEW) - before


def test_a_model_without_features_takes_new_items():
    data = random_data(30, 25, density=0.2)
    model = make_model(LD4MRec, data, batch_size=16)
    model.update(frame((0, 100), (1, 100), (2, 100)), passes=2)
    assert model.num_items == 26
    assert model.recommend(history=[100], k=3)[1].isfinite().all()


def test_the_linear_path_follows_the_interactions():
    model = trained(linear_path={"enabled": True, "rank": 8})
    model.start_epoch(torch.Generator())
    model.linear.keep(model.graph, torch.tensor(0.5))
    before = model.linear.basis.clone()
    model.update(NEW, FEATURES, passes=1)
    assert len(model.linear.basis) == len(model.linear.bias) == 27
    assert model.linear.best < 0
    fresh = copy.deepcopy(model.linear)
    fresh.discard()
    fresh.start(model.graph, torch.Generator())
    assert torch.equal(fresh.basis, model.linear.basis)
    assert not torch.equal(model.linear.basis[:25], before)


@pytest.mark.parametrize("row_length", [9, 10])
@pytest.mark.parametrize("rank", [{}, {"rank": 60}], ids=["own rank", "rank 60"])
def test_a_model_keeps_its_parts_whatever_size_the_data_comes_to(row_length, rank, tmp_path):
    """What was decided by the size of the data is decided once: more and longer rows, and fewer and
    shorter ones, lead to models that can be stored."""
    rows = [(user, (user + n) % 30) for user in range(12) for n in range(row_length)]
    data = from_frame(frame(*rows), split="ratio", ratios=(1, 0, 0))
    model = LD4MRec.from_data(data, **SETTINGS, linear_path=rank)
    model.start_epoch(torch.Generator().manual_seed(0))
    assert (model.linear is not None) == (row_length == 10)

    def check():
        model.save_pretrained(tmp_path)
        other = LD4MRec.from_pretrained(tmp_path)
        assert contents(other) == contents(model)
        item, score = model.recommend(0, k=5)
        again, same = other.recommend(0, k=5)
        assert torch.equal(item, again)
        assert torch.allclose(score, same)

    new = [(user, item) for user in range(20) for item in range(25)]
    model.update(frame(*new), passes=1)
    check()
    model.forget(user_id=list(range(15)), item_id=list(range(8)), passes=1)
    check()
    model.update(frame((15, 9), (77, 9)), passes=1)
    check()


@pytest.mark.parametrize(
    "hold", [pl.from_pandas, pa.Table.from_pandas, lambda f: f.to_dict("list")],
    ids=["polars", "arrow", "mapping"],
)  # fmt: skip
def test_kind_d_interactions_in_every_form(hold):
    one, other = trained(), trained()
    one.update(NEW, passes=1)
    other.update(hold(NEW), passes=1)
    assert contents(one) == contents(other)


@pytest.mark.parametrize(
    ("pairs", "features", "message"),
    [
        (pd.DataFrame({"user": ["u1"]}), None, "but not item"),
        (frame(("u1", None)), None, "1 row has no item"),
        (5, None, "of type int"),
        (NEW, {"smell": (["i1"], [[1.0]])}, "features are of 'smell'; the model knows image, text"),
        (NEW, {"image": (["x"], [[1.0] * 5])}, r"are \[1, 5\]; expected \[1, 6\]"),
        (NEW, {"image": (["x", "x"], np.ones((2, 6)))}, "more than one row"),
        (NEW, {"image": np.ones((2, 6))}, r"give \(ids, values\)"),
        (NEW, {"image": (["x"], [[1, 2, 3, 4, 5, np.inf]])}, "an infinite value"),
        (NEW, [1], "features are of type list"),
    ],
)
def test_kind_d_what_does_not_fit_is_refused_and_nothing_changes(pairs, features, message):
    model = trained()
    before = contents(model)
    with pytest.raises(DataError, match=message):
        model.update(pairs, features)
    assert contents(model) == before


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="no setting 'epochs'; there are passes, replay"):
        trained().update(NEW, epochs=3)
    with pytest.raises(ConfigError, match="replay is 1"):
        trained().update(NEW, replay=1)


def test_after_an_error_in_training_the_model_is_as_before(monkeypatch):
    model = trained()
    before, answer = contents(model), model.recommend(history=["i1", "i2"], k=5)
    steps = []

    def failing(self, batch, generator):
        steps.append(batch)
        value = self.items.weight.sum()
        return value * float("nan") if len(steps) == 3 else value

    with monkeypatch.context() as patch:
        patch.setattr(LD4MRec, "loss", failing)
        with pytest.raises(TrainingError, match="not finite in step 3 of the update"):
            model.update(NEW, FEATURES)
    assert contents(model) == before
    assert not model.training
    found = model.recommend(history=["i1", "i2"], k=5)
    assert torch.equal(found[0], answer[0])
    model.update(NEW, FEATURES, passes=1)
    assert model.num_items == 27


@pytest.mark.parametrize("name", [name for name, cls in MODELS.items() if not cls.updatable])
def test_a_model_that_cannot_be_updated_says_so(name):
    cls = MODELS[name]
    settings = {"num_neighbors": 3} if "num_neighbors" in cls.Config.model_fields else {}
    model = make_model(cls, random_data(features={"image": 6, "text": 5}, density=0.5), **settings)
    before = contents(model)
    for change in (lambda: model.update(frame((0, 1))), lambda: model.forget(user_id=0)):
        with pytest.raises(ConfigError, match=f"{cls.__name__} cannot be updated"):
            change()
    assert contents(model) == before


def test_replay_protects_what_was_learned():
    from graphdiff import fit

    data = random_data(60, 40, density=0.15)
    options = {"progress": False, "accelerator": "cpu", "epochs": 40}
    losses = {}
    for replay in (0.0, 0.8):
        model = LD4MRec.from_data(
            data, hidden_channels=16, batch_size=16, lr=0.01, **{"objective.num_negatives": 32}
        )
        fit(model, data, **options)
        old = torch.arange(10, 60)
        skewed = frame(*[(n, 0) for n in range(10)], *[(n, 1) for n in range(10)])
        model.update(skewed, passes=100, replay=replay)
        model.eval()
        generator = torch.Generator().manual_seed(0)
        losses[replay] = np.mean([model.loss(old, generator).item() for _ in range(20)])
    assert losses[0.8] < losses[0.0]


def test_a_state_of_another_model_is_not_used():
    model = trained()
    other = trained(hidden_channels=16).update(NEW).state
    expected = trained()
    expected.update(NEW, passes=1)
    model.update(NEW, passes=1, state={**other, "nothing/exp_avg": torch.zeros(3)})
    assert torch.equal(model.items.weight, expected.items.weight)


def test_the_state_of_a_training_is_read_from_its_checkpoint(tmp_path):
    from graphdiff import fit
    from graphdiff.training.checkpoints import checkpoint_of

    data = random_data(30, 25, {"image": 6}, density=0.2)
    model = LD4MRec.from_data(data, hidden_channels=8, batch_size=16)
    fit(model, data, epochs=3, out=tmp_path, progress=False, accelerator="cpu")
    state = saved_state(checkpoint_of(tmp_path), model)
    parameters = dict(model.named_parameters())
    names = {name.rpartition("/")[0] for name in state}
    assert {"items.weight", "bias", "items.content.weight"} <= names <= set(parameters)
    assert state["items.weight/step"].item() == 3 * 2
    for name in names:
        assert state[f"{name}/exp_avg"].shape == parameters[name].shape
        assert state[f"{name}/exp_avg"].abs().sum() > 0
    assert saved_state(tmp_path / "none", model) == {}


def test_an_updated_model_is_evaluated_on_grown_data():
    model = trained(ids=False)
    model.update(frame((0, 3), (31, 3), (2, 40)), passes=1)
    user, item = model.graph.user, model.graph.col
    free = [(u, i) for u in range(31) for i in range(26) if (u, i) not in
            set(zip(user.tolist(), item.tolist(), strict=True))][:40]  # fmt: skip
    x = {name: model.graph.features(name)[0].clone() for name in model.graph.modalities}
    for name in x:
        x[name][~model.graph.features(name)[1]] = torch.nan
    data = build_data(31, 26, torch.stack([user, item]), test=np.array(free).T, features=x)
    assert 0 <= evaluate(model, data, ks=(5,))["recall@5"] <= 1
