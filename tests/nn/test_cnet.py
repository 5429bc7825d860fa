"""C-Net: its equations, and its inference form against its training form."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff.nn.cnet import CNet, ConditionalBlock, EvaluatedCNet, freeze_cnet

CHANNELS, STEPS = 16, 5


def random_cnet(num_heads, num_blocks, dropout=0.0):
    torch.manual_seed(0)
    cnet = CNet(CHANNELS, num_heads, num_blocks, STEPS, dropout).double()
    for p in cnet.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return cnet


def inputs(num=7):
    return torch.randn(3, num, CHANNELS, dtype=torch.float64, generator=fixed()).unbind()


def fixed():
    return torch.Generator().manual_seed(1)


def test_a_new_network_is_the_identity():
    hidden, collaborative, preference = (x.float() for x in inputs())
    cnet = CNet(CHANNELS, num_heads=2, num_blocks=3, num_steps=STEPS)
    assert torch.equal(cnet(hidden, torch.arange(7) % 6, collaborative, preference), hidden)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_a_block_follows_its_equation_in_each_head(num_heads):
    cnet = random_cnet(num_heads, 1)
    hidden, *signals = inputs()
    t = torch.arange(7) % (STEPS + 1)
    found = cnet(hidden, t, *signals)
    (block,) = cnet.blocks
    d = CHANNELS // num_heads
    for head in range(num_heads):
        part = slice(head * d, (head + 1) * d)
        time = F.silu(cnet.time.weight[t][:, part])
        condition = torch.cat([time, *(F.layer_norm(x[:, part], [d]) for x in signals)], dim=1)
        modulation = condition @ block.modulate.weight[head] + block.modulate.bias[head]
        scale, shift = modulation.split(d, dim=1)
        x = (1 + scale) * F.layer_norm(hidden[:, part], [d]) + shift
        x = F.silu(x @ block.inner.weight[head] + block.inner.bias[head])
        expected = hidden[:, part] + x @ block.outer.weight[head] + block.outer.bias[head]
        torch.testing.assert_close(found[:, part], expected)


@pytest.mark.parametrize(("num_heads", "num_blocks"), [(1, 1), (2, 1), (2, 3), (4, 0)])
def test_the_inference_form_computes_the_same(num_heads, num_blocks):
    cnet = random_cnet(num_heads, num_blocks)
    frozen = cnet.freeze()
    hidden, *signals = inputs()
    for step in (0, 3, STEPS):
        expected = cnet(hidden, torch.full((7,), step), *signals)
        torch.testing.assert_close(frozen(hidden, step, *signals), expected)
        assert torch.equal(expected, hidden) == (num_blocks == 0)
    assert not any(p.requires_grad for p in frozen.state_dict().values())
    assert not list(frozen.parameters())


def test_the_inference_form_keeps_its_weights():
    cnet = random_cnet(2, 1)
    frozen = cnet.freeze()
    hidden, *signals = inputs()
    before = frozen(hidden, 1, *signals)
    with torch.no_grad():
        for p in cnet.parameters():
            p += 1
    assert torch.equal(frozen(hidden, 1, *signals), before)


class Plain(torch.nn.Module):
    """A network without an inference form of its own."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * CHANNELS, CHANNELS).double()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, hidden, t, collaborative, preference):
        x = self.linear(torch.cat([hidden, collaborative, preference], dim=1))
        return self.dropout(x) + t.unsqueeze(1)


def test_a_network_without_inference_form_is_called_in_evaluation_mode():
    cnet = Plain()
    frozen = freeze_cnet(cnet)
    assert isinstance(frozen, EvaluatedCNet)
    hidden, *signals = inputs()
    found = frozen(hidden, 3, *signals)
    assert cnet.training
    assert not found.requires_grad
    expected = cnet.eval()(hidden, torch.full((7,), 3), *signals)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        cnet.linear.weight.zero_()
    assert torch.equal(frozen(hidden, 3, *signals), found)


def test_resetting_draws_new_weights_and_restores_the_identity():
    block = ConditionalBlock(2, 4, 6)
    torch.nn.init.normal_(block.outer.weight)
    before = block.inner.weight.clone()
    block.reset_parameters()
    assert not torch.equal(block.inner.weight, before)
    hidden = torch.randn(3, 2, 4)
    time, t = torch.randn(5, 2, 2), torch.tensor([4, 0, 4])
    assert torch.equal(block(hidden, time, t, torch.randn(3, 2, 4)), hidden)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_a_block_in_few_operators_equals_the_composed_one_with_its_gradients(num_heads):
    torch.manual_seed(0)
    block = ConditionalBlock(num_heads, 4, 6).double()
    torch.nn.init.normal_(block.outer.weight)
    torch.nn.init.normal_(block.outer.bias)
    hidden = torch.randn(3, num_heads, 4, dtype=torch.float64, requires_grad=True)
    time, signals = (
        torch.randn(num, num_heads, width, dtype=torch.float64, requires_grad=True)
        for num, width in ((5, 2), (3, 4))
    )
    t = torch.tensor([4, 0, 4])
    condition = torch.cat([time[t], signals], dim=-1)
    composed = block.composed(hidden.transpose(0, 1), condition.transpose(0, 1)).transpose(0, 1)
    found, outer = block(hidden, time, t, signals), torch.randn_like(hidden)
    torch.testing.assert_close(found, composed, rtol=1e-9, atol=1e-9)
    inputs = hidden, time, signals, *block.parameters()
    for one, two in zip(
        torch.autograd.grad((found * outer).sum(), inputs),
        torch.autograd.grad((composed * outer).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(block, (hidden, time, t, signals))


def test_dropout_is_for_training_alone():
    cnet = random_cnet(2, 2, dropout=0.5)
    hidden, *signals = inputs()
    t = torch.zeros(7, dtype=torch.long)
    assert not torch.equal(cnet(hidden, t, *signals), cnet(hidden, t, *signals))
    cnet.eval()
    torch.testing.assert_close(cnet(hidden, t, *signals), cnet.freeze()(hidden, 0, *signals))
