"""C-Net answers as it has learned."""

import pytest
import torch

from graphdiff.nn.cnet import CNet


@pytest.mark.parametrize(("num_heads", "num_blocks"), [(1, 1), (2, 1), (2, 3), (4, 0)])
def test_a_settled_network_answers_as_the_one_that_learned(num_heads, num_blocks):
    torch.manual_seed(0)
    network = CNet(16, num_heads, num_blocks, num_steps=5).double()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.5)
    settled = network.settled()
    hidden, collaborative, preference = torch.randn(3, 7, 16, dtype=torch.float64)
    for step in (0, 3, 5):
        t = torch.full((7,), step)
        expected = network(hidden, t, collaborative, preference)
        torch.testing.assert_close(settled(hidden, step, collaborative, preference), expected)
        if num_blocks:
            assert not torch.allclose(expected, hidden)
    assert not any(p.requires_grad for p in settled.state_dict().values())


@pytest.mark.parametrize("num_heads", [1, 2])
def test_a_settled_network_keeps_its_weights(num_heads):
    torch.manual_seed(0)
    network = CNet(8, num_heads, 1, num_steps=3)
    for p in network.parameters():
        torch.nn.init.normal_(p)
    settled, x = network.settled(), torch.randn(3, 4, 8)
    before = settled(x[0], 1, x[1], x[2])
    with torch.no_grad():
        for p in network.parameters():
            p += 1
    assert torch.equal(settled(x[0], 1, x[1], x[2]), before)
