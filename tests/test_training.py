import csv
import math

import pytest
import torch

from graphdiff import LD4MRec, LightGCN, evaluate, fit
from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.models import MODELS
from graphdiff.training import ShuffledBatches
from tests.conftest import random_data

SIZES = {"num_users": 40, "num_items": 30, "features": {"image": 6}}


def train(model_class=LightGCN, data=None, out=None, settings=None, **arguments):
    data = random_data(**SIZES) if data is None else data
    model = model_class.from_data(data, hidden_channels=8, **{"batch_size": 32, **(settings or {})})
    arguments = {"epochs": 4, "progress": False, "accelerator": "cpu", **arguments}
    return model, fit(model, data, out=out, **arguments), data


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
def test_fit_learns_and_restores_the_best_epoch(model_class):
    model, result, data = train(model_class, epochs=20, settings={"lr": 0.01})
    losses = [row["loss"] for row in result.history]
    assert sum(losses[-5:]) < sum(losses[:5])
    values = [row["recall@20"] for row in result.history]
    assert result.best_epoch == values.index(max(values)) + 1
    # The weights that came back are those that validation saw at that epoch.
    assert evaluate(model, data, "val") == pytest.approx(result.val)
    assert not model.training


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
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
    _, result, _ = train(epochs=100, patience=2, settings={"lr": 1e-12})
    assert result.best_epoch == 1
    assert result.epochs == 3


def test_eval_every():
    _, result, _ = train(epochs=6, eval_every=3)
    assert [row["epoch"] for row in result.history] == [3, 6]


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
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


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match="nothing to resume"):
        train(out=tmp_path, resume=True)


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


def test_a_loss_that_is_no_number_stops_with_advice():
    data = random_data(**SIZES)
    model = LightGCN.from_data(data, hidden_channels=8)

    def broken(batch, generator):
        return weights_sum(model) * math.nan

    def weights_sum(model):
        return model.net.embedding.weight.sum()

    model.loss = broken
    with pytest.raises(GraphDiffError, match="loss became nan in epoch 1; lower the learning rate"):
        fit(model, data, epochs=2, progress=False, accelerator="cpu")


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
