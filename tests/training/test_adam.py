"""Adam with shared counters against PyTorch's."""

import copy

import pytest
import torch

from graphdiff.training.adam import FusedAdam, adam


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(size, generator=generator)) for size in ((4, 3), (5,), ())
    ]


def train(optimizer, params, steps, missing=()):
    """Take steps, in some of which the last parameter has no gradient."""
    for step in steps:
        optimizer.zero_grad()
        used = params[:-1] if step in missing else params
        sum((p * (step + 1)).sin().sum() for p in used).backward()
        optimizer.step()


@pytest.mark.parametrize("missing", [(), (0, 1), (3,)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_takes_the_steps_of_torch(missing, weight_decay):
    ours, theirs = parameters(), parameters()
    groups = [[{"params": x[:1], "lr": 0.05}, {"params": x[1:]}] for x in (ours, theirs)]
    optimizer = FusedAdam(groups[0], 0.1, weight_decay)
    reference = torch.optim.Adam(groups[1], lr=0.1, weight_decay=weight_decay, fused=True)
    train(optimizer, ours, range(6), missing)
    train(reference, theirs, range(6), missing)
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(one, two)
        assert optimizer.state[one]["step"] == reference.state[two]["step"]


def test_a_state_is_loaded_and_continued():
    whole, params = parameters(), parameters()
    train(FusedAdam(whole, 0.1), whole, range(5))
    first = FusedAdam(params, 0.1)
    train(first, params, range(3))
    state = copy.deepcopy(first.state_dict())
    second = FusedAdam(params, 0.1)
    second.load_state_dict(state)
    assert len({id(second.state[p]["step"]) for p in params}) == 1
    train(second, params, range(3, 5))
    for one, two in zip(params, whole, strict=True):
        assert torch.equal(one, two)


def test_parameters_without_gradients_have_no_state():
    params = parameters()
    optimizer = FusedAdam(params, 0.1)
    params[0].sum().backward()
    optimizer.step()
    assert list(optimizer.state_dict()["state"]) == [0]


def test_devices_without_the_kernel_have_the_plain_one():
    assert type(adam(parameters(), 0.1, 0.0, torch.device("meta"))) is torch.optim.Adam
    assert type(adam(parameters(), 0.1, 0.0, torch.device("cpu"))) is FusedAdam


def test_a_stored_state_has_a_counter_for_each_parameter():
    """Formats that refuse shared memory can store it, and other implementations can read it."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = FusedAdam(weights, lr=0.1)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    steps = [state["step"] for state in optimizer.state_dict()["state"].values()]
    assert [step.item() for step in steps] == [1, 1, 1]
    assert len({step.data_ptr() for step in steps}) == 3
    other = torch.optim.Adam(weights, lr=0.1, fused=True)
    other.load_state_dict(optimizer.state_dict())
    other.step()
    assert all(state["step"] == 2 for state in other.state.values())
