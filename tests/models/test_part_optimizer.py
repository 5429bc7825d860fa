import torch

from graphdiff.models.part_optimizer import PartOptimizer


def make():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def loss_of(part):
    return part(torch.arange(6.0).view(2, 3)).square().mean()


def test_steps_equal_adam():
    part, reference = make(), make()
    own = PartOptimizer(part, lr=0.1, betas=(0.5, 0.9))
    adam = torch.optim.Adam(reference.parameters(), lr=0.1, betas=(0.5, 0.9))
    for _ in range(3):
        own.step(loss_of(part))
        adam.zero_grad()
        loss_of(reference).backward()
        adam.step()
    torch.testing.assert_close(part.weight, reference.weight)
    assert part.weight.grad is None


def test_gradients_flow_through_a_frozen_part_but_not_into_it():
    part = make()
    own = PartOptimizer(part, lr=0.1)
    x = torch.ones(2, 3, requires_grad=True)
    with own.frozen():
        out = part(x).sum()
    out.backward()
    torch.testing.assert_close(x.grad, part.weight.detach().expand(2, 3))
    assert part.weight.grad is None
    assert part.weight.requires_grad


def test_restored_state_continues():
    whole, cut = make(), make()
    one = PartOptimizer(whole, lr=0.1)
    for _ in range(4):
        one.step(loss_of(whole))
    before = PartOptimizer(cut, lr=0.1)
    for _ in range(2):
        before.step(loss_of(cut))
    after = PartOptimizer(cut, lr=0.1)
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == before.state_dict()
    for _ in range(2):
        after.step(loss_of(cut))
    assert torch.equal(cut.weight, whole.weight)


def test_reset_discards_the_moments():
    part = make()
    own = PartOptimizer(part, lr=0.1)
    own.step(loss_of(part))
    own.reset()
    assert own.state_dict() == {}
