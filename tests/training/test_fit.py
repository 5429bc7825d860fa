import csv
import math
import signal

import pytest
import torch

from graphdiff import EASE, LD4MRec, LightGCN, evaluate, fit
from graphdiff.errors import ConfigError, DataError, Interrupted, RunError, TrainingError
from graphdiff.evaluation.ranking import rank
from graphdiff.training.batches import ShuffledBatches
from graphdiff.training.module import RecommenderModule
from tests.conftest import SOLVED, TRAINED, random_data

trained_model = pytest.mark.parametrize("model_class", TRAINED.values(), ids=list(TRAINED))
solved_model = pytest.mark.parametrize("model_class", SOLVED.values(), ids=list(SOLVED))
SIZES = {"num_users": 40, "num_items": 30, "features": {"image": 6}}


def train(model_class=LightGCN, data=None, out=None, settings=None, **arguments):
    data = random_data(**SIZES) if data is None else data
    model = model_class.from_data(data, hidden_channels=8, **{"batch_size": 32, **(settings or {})})
    arguments = {"epochs": 4, "progress": False, "accelerator": "cpu", **arguments}
    return model, fit(model, data, out=out, **arguments), data


def steps_per_epoch(model):
    return -(-model.graph.num_interactions // 32)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@trained_model
def test_fit_learns_and_restores_the_best_epoch(model_class):
    model, result, data = train(model_class, epochs=20, settings={"lr": 0.01})
    losses = [row["loss"] for row in result.history]
    assert sum(losses[-5:]) < sum(losses[:5])
    values = [row["recall@20"] for row in result.history]
    assert result.best_epoch == values.index(max(values)) + 1
    # The weights that came back are those that validation saw at that epoch.
    assert rank(model, data, "val").mean() == pytest.approx(result.val)
    assert not model.training


@trained_model
def test_same_seed_same_weights(model_class):
    first, second, other = (
        weights(train(model_class, seed=seed, epochs=3)[0]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_learning_rate_decays_after_each_epoch():
    settings = {"lr": 0.01, "lr_decay": 1e-6}
    one, four = (weights(train(epochs=epochs, settings=settings)[0]) for epochs in (1, 4))
    torch.testing.assert_close(one, four, rtol=0, atol=1e-6)
    steady, _, _ = train(epochs=1, settings={"lr": 0.01})
    assert torch.equal(weights(steady), one)


def test_early_stopping_counts_validations():
    _, result, _ = train(epochs=100, patience=2, min_steps=0, settings={"lr": 1e-12})
    assert result.best_epoch == 1
    assert result.epochs == 3


def test_patience_waits_for_the_fewest_steps():
    model, _, _ = train(epochs=1)
    steps = steps_per_epoch(model)
    for min_steps, epochs in ((3 * steps, 3), (3 * steps + 1, 4), (7 * steps, 7)):
        _, result, _ = train(epochs=100, patience=2, min_steps=min_steps, settings={"lr": 1e-12})
        assert (result.best_epoch, result.epochs) == (1, epochs)
    # What is found after the wait's end is waited for in turn.
    _, result, _ = train(epochs=100, patience=5, min_steps=steps)
    assert result.epochs == min(100, result.best_epoch + 5)


def test_a_resumed_training_counts_all_steps(tmp_path):
    model, _, _ = train(epochs=1)
    steps = steps_per_epoch(model)
    still = {"settings": {"lr": 1e-12}, "patience": 2, "min_steps": 6 * steps, "out": tmp_path}
    train(epochs=4, **still)
    _, result, _ = train(epochs=100, resume=True, **still)
    assert result.epochs == 6
    _, again, _ = train(epochs=100, resume=True, **still)
    assert again.epochs == 6


def test_a_training_out_of_time_ends_at_its_next_validation(tmp_path):
    _, result, _ = train(epochs=100, max_minutes=1e-9, eval_every=2, out=tmp_path)
    assert (result.epochs, result.out_of_time) == (2, True)
    # A resumed training counts what was spent before, and may be given more.
    arguments = {"epochs": 6, "eval_every": 2, "out": tmp_path, "resume": True}
    _, result, _ = train(max_minutes=1e-9, **arguments)
    assert (result.epochs, result.out_of_time) == (2, True)
    _, result, _ = train(max_minutes=60, **arguments)
    assert (result.epochs, result.out_of_time) == (6, False)


def test_a_training_resumed_between_validations_goes_on_to_the_next(tmp_path, monkeypatch):
    steps = steps_per_epoch(train(epochs=1)[0])
    slow = {"settings": {"lr": 1e-12}, "patience": 1, "eval_every": 5, "min_steps": 12 * steps}
    _, whole, _ = train(epochs=100, **slow)
    assert whole.epochs == 15

    def stop(module):
        if module.current_epoch == 12:
            module.stop.signal = signal.SIGINT
        start_epoch(module)

    start_epoch = RecommenderModule.on_train_epoch_start
    with monkeypatch.context() as patch:
        patch.setattr(RecommenderModule, "on_train_epoch_start", stop)
        with pytest.raises(Interrupted):
            train(epochs=100, out=tmp_path, **slow)
    _, result, _ = train(epochs=100, out=tmp_path, resume=True, **slow)
    assert [row["epoch"] for row in result.history] == [5, 10, 15]


def test_fewer_steps_than_none():
    with pytest.raises(ConfigError, match="min_steps is -1; give at least 0"):
        train(min_steps=-1)


def test_eval_every():
    _, result, _ = train(epochs=6, eval_every=3)
    assert [row["epoch"] for row in result.history] == [3, 6]


@trained_model
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(model_class, tmp_path):
    whole, whole_result, _ = train(model_class, epochs=5, out=tmp_path / "whole")
    train(model_class, epochs=2, out=tmp_path / "cut")
    resumed, result, _ = train(model_class, epochs=5, out=tmp_path / "cut", resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in whole_result.history]
    again = [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
    assert strip == again
    assert result.best_epoch == whole_result.best_epoch


def test_out_holds_the_best_model_and_the_log(tmp_path):
    model, result, _ = train(out=tmp_path)
    again = LightGCN.from_pretrained(tmp_path)
    assert torch.equal(weights(again), weights(model))
    with open(tmp_path / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[2]["recall@20"]) == result.history[2]["recall@20"]
    assert not list(tmp_path.glob(".*"))


@solved_model
def test_models_without_gradient_are_solved_in_one_epoch(model_class, tmp_path):
    data = random_data(**SIZES)
    model = model_class.from_data(data)
    result = fit(model, data, epochs=9, out=tmp_path, progress=False)
    assert (result.epochs, result.best_epoch) == (1, 1)
    assert result.val == pytest.approx(rank(model, data, "val").mean())
    assert result.val["recall@20"] > 0
    again = model_class.from_pretrained(tmp_path)
    for found, expected in zip(
        again.recommend([0, 7], k=9), model.recommend([0, 7], k=9), strict=True
    ):
        assert torch.equal(found, expected)
    with open(tmp_path / "metrics.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["recall@20"]) == result.val["recall@20"]
    resumed = fit(model_class.from_data(data), data, out=tmp_path, resume=True, progress=False)
    assert resumed.val == result.val


def test_solving_is_reported(capsys):
    data = random_data(**SIZES)
    fit(EASE.from_data(data), data)
    assert "Solving EASE for 30 items" in capsys.readouterr().err
    fit(EASE.from_data(data), data, progress=False)
    assert not capsys.readouterr().err


def test_an_unknown_metric_is_refused_by_models_without_gradient_too():
    data = random_data(**SIZES)
    with pytest.raises(ConfigError, match="no metric 'recall@7' to monitor; there are"):
        fit(EASE.from_data(data), data, monitor="recall@7", progress=False)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="nothing to resume"):
        train(out=tmp_path, resume=True)


@pytest.mark.parametrize("other", [{"num_users": 50}, {"num_items": 31}])
def test_data_of_another_size_than_the_model_is_refused(other):
    model = LightGCN.from_data(random_data(**SIZES))
    before = weights(model).clone()
    with pytest.raises(DataError, match="the model was made from data with"):
        fit(model, random_data(**{**SIZES, **other}), progress=False)
    assert torch.equal(weights(model), before)


def test_validation_pairs_are_needed():
    data = random_data(**SIZES)
    none = torch.empty(2, 0, dtype=torch.long)
    data["user", "interacts", "item"].val_edge_label_index = none
    with pytest.raises(ConfigError, match="needs validation pairs"):
        train(data=data)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigError, match="no metric 'recall@7' to monitor; there are"):
        train(monitor="recall@7")


def test_held_out_pairs_in_training_are_refused():
    data = random_data(**SIZES)
    store = data["user", "interacts", "item"]
    store.edge_index = torch.cat([store.edge_index, store.test_edge_label_index[:, :1]], dim=1)
    with pytest.raises(DataError):
        train(data=data)


def failing(monkeypatch, model_class, step, spoil):
    """Makes the loss of one training step what ``spoil`` makes of it."""
    loss, steps = model_class.loss, []

    def spoilt(self, batch, generator):
        steps.append(batch)
        value = loss(self, batch, generator)
        return spoil(self, value) if len(steps) == step else value

    monkeypatch.setattr(model_class, "loss", spoilt)
    return steps


def infinite_gradient(model, loss):
    # The root's slope at zero is infinite, its value is not.
    return loss + (0 * next(model.parameters()).flatten()[0]).sqrt()


@pytest.mark.parametrize(
    ("model_class", "who"),
    [(LightGCN, r"interactions user \d+ item \d+, .*, …"), (LD4MRec, r"users \d+, \d+, \d+, …")],
    ids=["interactions", "users"],
)
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda model, loss: loss * math.nan, "loss"),
        (lambda model, loss: loss + math.inf, "loss"),
        (infinite_gradient, "gradient"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_what_is_not_finite_stops_with_advice(tmp_path, monkeypatch, model_class, who, spoil, what):
    data = random_data(**SIZES)
    settings = {"hidden_channels": 8, "batch_size": 16}
    model = model_class.from_data(data, **settings)
    with monkeypatch.context() as patch:
        num = 40 if model_class is LD4MRec else model.graph.num_interactions
        num = -(-num // 16)
        taken = failing(patch, model_class, num + 2, spoil)
        with pytest.raises(
            TrainingError,
            match=rf"^the {what} is not finite in epoch 2, batch 2 of {num} \({who}\); "
            "lower the learning rate",
        ) as error:
            train(model_class, data, tmp_path, epochs=3, settings={"batch_size": 16})
        assert len(taken) == num + 2
    first = taken[-1][:3].tolist()
    named = model.graph.user_of(taken[-1][:3]).tolist() if model_class is LightGCN else first
    for user in named:
        assert str(user) in str(error.value)
    # The last good checkpoint is that of the epoch before, and it goes on.
    whole, _, _ = train(model_class, data, epochs=3, settings={"batch_size": 16})
    resumed, _, _ = train(
        model_class, data, tmp_path, epochs=3, resume=True, settings={"batch_size": 16}
    )
    assert torch.equal(weights(resumed), weights(whole))


def test_after_a_failure_the_model_has_its_best_weights(monkeypatch):
    data = random_data(**SIZES)
    best, _, _ = train(data=data, epochs=1)
    model = LightGCN.from_data(data, hidden_channels=8, batch_size=32)
    steps = steps_per_epoch(model)
    failing(monkeypatch, LightGCN, steps + 1, lambda model, loss: loss * math.nan)
    with pytest.raises(TrainingError):
        fit(model, data, epochs=2, progress=False, accelerator="cpu")
    assert torch.equal(weights(model), weights(best))


@pytest.mark.parametrize("name", ["epochs", "patience", "eval_every"])
def test_arguments_out_of_range(name):
    with pytest.raises(ConfigError, match=f"{name} is 0; give at least 1"):
        train(**{name: 0})


@pytest.mark.parametrize("arguments", [{"accelerator": "abacus"}, {"precision": "7"}])
def test_devices_and_precisions_that_are_not_there(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ConfigError, match=rf"{name}(=| is )'{value}'"):
        train(**arguments)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("model_class", [LightGCN, LD4MRec])
def test_other_precisions(model_class, precision):
    model, result, _ = train(model_class, precision=precision, epochs=2)
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert weights(model).isfinite().all()


def test_batches_depend_on_seed_and_epoch_alone():
    def order(seed, epoch):
        batches = ShuffledBatches(10, 4, seed)
        batches.set_epoch(epoch)
        return [batch.tolist() for batch in batches]

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(i for batch in order(0, 3) for i in batch) == list(range(10))
    assert len(ShuffledBatches(10, 4, 0)) == 3


def test_metrics_of_an_untrained_model_are_near_chance():
    data = random_data(200, 100, {"image": 6}, density=0.05)
    model = LD4MRec.from_data(data, hidden_channels=8)
    assert evaluate(model, data, "test")["recall@20"] == pytest.approx(0.2, abs=0.15)
