"""Counted work, and what is chosen by it."""

import pytest
import torch

from graphdiff import LightGCN, fit
from graphdiff.training import module as training_module
from graphdiff.training import work
from graphdiff.training.work import CountWork, epochs_between_validations, suitable_threads
from tests.conftest import random_data


def test_products_and_values_are_counted():
    a, b = torch.randn(7, 5), torch.randn(5, 3)
    with CountWork() as counted:
        a @ b
    assert counted.work == 2 * 7 * 5 * 3 + work.PER_VALUE * 21
    with CountWork() as counted:
        a.t().reshape(-1)[None].expand(4, -1)[:, :2]
    assert counted.work == work.PER_VALUE * 35  # reshape copies; views cost nothing


def test_a_sum_of_table_rows_counts_what_it_reads():
    index = torch.tensor([0, 1, 1, 2])
    with torch.no_grad(), CountWork() as counted:
        torch.nn.functional.embedding_bag(index, torch.randn(3, 8), index.new_tensor([0]))
    assert counted.work >= work.PER_VALUE * 4 * 8


def test_the_gradient_of_weights_counts_what_it_reads_too():
    index, table = torch.arange(50).remainder(3), torch.randn(3, 8)
    weight = torch.ones(50, requires_grad=True)
    out = torch.nn.functional.embedding_bag(
        index, table, torch.tensor([0]), mode="sum", per_sample_weights=weight
    )
    with CountWork() as counted:
        out.sum().backward()
    assert counted.work >= work.PER_VALUE * 50 * 8


def test_the_count_is_the_same_every_time():
    model = LightGCN.from_data(random_data(40, 30), hidden_channels=8)

    def once():
        with CountWork() as counted:
            model.loss(torch.arange(32), torch.Generator().manual_seed(0))
        return counted.work

    once()  # builds what is cached
    assert once() == once() > 0


def test_the_work_of_a_step_includes_its_backward_pass(monkeypatch):
    data, found = random_data(40, 30), []
    choose = training_module.suitable_threads
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(
        training_module,
        "suitable_threads",
        lambda step, most: found.append(step) or choose(step, most),
    )
    model = LightGCN.from_data(data, hidden_channels=8, batch_size=16)
    fit(model, data, epochs=2, progress=False, accelerator="cpu")
    updated = sum(p.numel() for p in model.parameters())
    with CountWork() as counted:
        loss = model.loss(torch.arange(16), torch.Generator().manual_seed(0))
    forward = counted.work
    with CountWork() as counted:
        loss.backward()
    expected = forward + counted.work + work.PER_VALUE * work.PER_PARAMETER * updated
    assert counted.work > 0.2 * forward
    assert found == [pytest.approx(expected, rel=0.05)]


def test_threads_follow_the_work_and_the_load():
    def threads(step, load, most=8):
        return suitable_threads(step, most, lambda: (load, 0.0, 0.0))

    cores = work.available_cores()
    assert threads(1e12, 0.0) == min(8, cores)
    assert threads(1e12, 0.0, most=1) == 1
    assert threads(1e12, cores + 3.0) == 1
    assert threads(0.5 * work.WORK_PER_THREAD, 0.0) == 1


def test_a_system_without_load_average():
    def missing():
        raise OSError

    assert suitable_threads(1e12, 3, missing) == 3


@pytest.mark.parametrize("total", [1e10, 3e11])
def test_validation_takes_at_most_the_allowed_share(total):
    for cost in (1e9, 4e9, 2e10, 9e10):
        every = epochs_between_validations(total, cost)
        assert every == 10 or cost <= work.VALIDATION_SHARE * total * every
        assert every == 1 or cost > work.VALIDATION_SHARE * total * (every - 1)
    assert epochs_between_validations(1.0, work.LITTLE_WORK / 2) == 1


def trained(tmp_path=None, **arguments):
    model = LightGCN.from_data(random_data(40, 30), hidden_channels=8, batch_size=32)
    arguments = {"progress": False, "accelerator": "cpu", "min_steps": 0, **arguments}
    return model, fit(model, random_data(40, 30), out=tmp_path, **arguments)


def test_costly_validations_are_fewer_and_resuming_keeps_their_epochs(monkeypatch, tmp_path):
    monkeypatch.setattr(training_module, "epochs_between_validations", lambda *costs: 3)
    settings = {"epochs": 14, "patience": 100}
    whole, result = trained(**settings)
    assert [row["epoch"] for row in result.history] == [1, 3, 6, 9, 12]
    trained(tmp_path, **(settings | {"epochs": 7}))
    monkeypatch.setattr(training_module, "epochs_between_validations", lambda *costs: 1)
    resumed, again = trained(tmp_path, resume=True, **settings)
    assert [row["epoch"] for row in again.history] == [1, 3, 6, 9, 12]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_given_epochs_between_validations_are_kept():
    _, result = trained(epochs=5, eval_every=2)
    assert [row["epoch"] for row in result.history] == [2, 4]


def test_the_number_of_threads_is_restored(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    monkeypatch.setattr(training_module, "suitable_threads", lambda *given: before + 1)
    seen = []
    trained(epochs=1, report=lambda row: seen.append(torch.get_num_threads()))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    trained(epochs=1, report=lambda row: seen.append(torch.get_num_threads()))
    assert seen[1:] == [before]
