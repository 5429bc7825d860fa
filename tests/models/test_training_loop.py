"""A plain PyTorch training loop, without Lightning."""

import copy

import pytest
import torch

from graphdiff import LD4MRec, evaluate, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.models import MODELS
from graphdiff.schema import INTERACTS
from graphdiff.training.batches import ShuffledBatches
from tests.conftest import TRAINED, make_model, random_data


def num_positions(model):
    return model.num_users if model.batch_over == "users" else model.graph.num_interactions


def train(model, epochs, start=True, seed=0):
    """The loop of the documentation; returns the loss of each step."""
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=model.config.lr, fused=True)
    generator = torch.Generator().manual_seed(seed)
    batches = ShuffledBatches(num_positions(model), model.config.batch_size, seed)
    losses = []
    for epoch in range(epochs):
        model.train()
        if start:
            model.start_epoch(generator)
        batches.set_epoch(epoch)
        for batch in batches:
            loss = model.loss(batch, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    return losses


def test_the_loop_computes_what_fit_does():
    data = SyntheticMultimedia(num_users=300, num_items=120, seed=0)[0]
    settings = {"hidden_channels": 64, "batch_size": 64, "ema_decay": 0.0}
    fitted = LD4MRec.from_data(data, **settings)
    result = fit(fitted, data, epochs=6, eval_every=6, seed=5, progress=False, accelerator="cpu")
    model = LD4MRec.from_data(data, **settings)
    torch.manual_seed(5)
    model.reset_parameters()
    losses = train(model, epochs=6, seed=5)
    assert sum(losses[-5:]) < sum(losses[:5])
    model.calibrate(data[INTERACTS].val_edge_label_index)
    assert evaluate(model, data, "val")["recall@20"] == result.val["recall@20"]
    for name, p in fitted.named_parameters():
        assert torch.equal(p, model.get_parameter(name)), name


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_forgotten_start_of_the_first_epoch_changes_nothing(name, multimodal_data):
    model = make_model(MODELS[name], multimodal_data)
    forgetful = copy.deepcopy(model)
    assert train(model, epochs=1) == train(forgetful, epochs=1, start=False)
    users = torch.arange(12)
    assert torch.equal(model(users), forgetful(users))


def test_features_are_read_and_the_linear_path_is_started_without_start_epoch():
    data = random_data(features={"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8, linear_path={"enabled": True})
    assert not model.items.content.started
    train(model, epochs=1, start=False)
    assert model.items.content.started
    assert model.items.content().any()
    assert model.linear.solved


def test_start_epoch_is_called_once_where_it_is_forgotten(monkeypatch):
    start_epoch, calls = LD4MRec.start_epoch, []

    def counting(model, generator):
        calls.append(generator)
        start_epoch(model, generator)

    monkeypatch.setattr(LD4MRec, "start_epoch", counting)
    model = LD4MRec.from_data(random_data(features={"image": 6}), hidden_channels=8)
    train(model, epochs=3, start=False)
    assert len(calls) == 1
    train(model, epochs=3)
    assert len(calls) == 4


def test_a_loaded_model_can_be_trained_on(tmp_path):
    data = random_data(features={"image": 6})
    model = LD4MRec.from_data(data, hidden_channels=8)
    train(model, epochs=1)
    model.save_pretrained(tmp_path)
    coordinates = model.items.content.coordinates.clone()
    again = LD4MRec.from_pretrained(tmp_path)
    train(again, epochs=1, start=False)
    # What was learned from the features is kept: they are read once in a model's life.
    assert torch.equal(again.items.content.coordinates, coordinates)
    assert not torch.equal(again.items.weight, model.items.weight)
