"""Equal results on CUDA and on the CPU; run with ``pytest -m gpu``."""

import pytest
import torch

from graphdiff import compare, fit
from graphdiff.evaluation.ranking import rank
from graphdiff.models import MODELS
from tests.conftest import SOLVED, TRAINED, make_model, random_data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DATA = random_data(60, 50, {"image": 6, "text": 5})


def make(model_class):
    return make_model(model_class, DATA)


@pytest.mark.parametrize("model_class", MODELS.values(), ids=list(MODELS))
def test_scores_and_rankings_equal_those_of_the_cpu(model_class):
    model = make(model_class)
    users = torch.arange(60)
    with torch.no_grad():
        expected = model.eval()(users)
    items, scores = model.recommend(users, k=10)
    model.cuda()
    with torch.no_grad():
        found = model(users.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    gpu_items, gpu_scores = model.recommend(users, k=10)
    torch.testing.assert_close(gpu_scores.cpu(), scores, rtol=1e-4, atol=1e-5)
    assert (gpu_items.cpu() == items).float().mean() > 0.99


@pytest.mark.parametrize("model_class", SOLVED.values(), ids=list(SOLVED))
def test_solutions_equal_those_of_the_cpu(model_class):
    expected = make(model_class)(torch.arange(60))
    model = model_class.from_data(DATA, **dict(make(model_class).config)).cuda()
    fit(model, DATA, progress=False)
    assert model.device.type == "cuda"
    found = model(torch.arange(60, device="cuda"))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", TRAINED.values(), ids=list(TRAINED))
def test_training_runs_and_learns(model_class):
    model = make(model_class)
    result = fit(model, DATA, epochs=20, accelerator="cuda", progress=False)
    losses = [row["loss"] for row in result.history]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert model.device.type == "cuda"
    assert rank(model, DATA, "val").mean() == pytest.approx(result.val, abs=1e-3)


def test_a_process_of_its_own_trains_on_the_gpu(tmp_path):
    result = compare(DATA, ["bprmf"], epochs=1, jobs=2, out=tmp_path / "cells.json")
    [seed] = result.content["models"]["bprmf"]["seeds"]
    assert seed["device"] == torch.cuda.get_device_name()
