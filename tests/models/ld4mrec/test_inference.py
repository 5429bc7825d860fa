"""The one pass answers as the parts that learned would."""

import math

import pytest
import torch
import torch.nn.functional as F

from graphdiff.models.ld4mrec.inference import SOFT_LENGTH, SettledPass
from graphdiff.nn.cnet import CNet
from graphdiff.nn.signals import ModalityGate

CHANNELS, TEMPERATURE = 16, 0.3


def parts(num_heads, num_blocks, num_modalities):
    torch.manual_seed(0)
    gate = ModalityGate(num_modalities, CHANNELS).double()
    network = CNet(CHANNELS, num_heads, num_blocks, num_steps=5).double()
    for p in (*gate.parameters(), *network.parameters()):
        torch.nn.init.normal_(p, std=0.5)
    return gate, network


def everybody(num_modalities):
    """Shares of the modalities, of which the later weigh more."""
    weight = torch.arange(1, num_modalities + 1, dtype=torch.float64)
    return weight / weight.sum()


def learned_told(gate, encoded):
    """Hidden states before C-Net, collaborative signals and preferences, by the gate itself."""
    behaviour, collaborative, *content = encoded.split(CHANNELS, dim=1)
    if not content:
        return behaviour, collaborative, torch.zeros_like(behaviour)
    shares = everybody(len(content))
    share = gate(torch.stack(content, dim=1), shares)
    preference = sum(share[:, m, None] * x for m, x in enumerate(content))
    usual = sum(shares[m] * x for m, x in enumerate(content))
    return behaviour + preference - usual, collaborative, preference


@pytest.mark.parametrize(
    ("num_heads", "num_blocks", "num_modalities"), [(1, 1, 1), (2, 1, 2), (2, 3, 0), (4, 0, 3)]
)
def test_one_pass_answers_as_its_parts_have_learned(num_heads, num_blocks, num_modalities):
    gate, network = parts(num_heads, num_blocks, num_modalities)
    settled = SettledPass(gate, everybody(num_modalities), network, TEMPERATURE)
    encoded = torch.randn(7, (2 + num_modalities) * CHANNELS, dtype=torch.float64)
    encoded[3] = 0  # nothing is known of them
    if num_modalities > 1:
        encoded[4, -CHANNELS:] = 0  # their items lack the last modality
    told = learned_told(gate, encoded)
    for step in (0, 3, 5):
        expected = network(told[0], torch.full((7,), step), *told[1:])
        torch.testing.assert_close(settled.hidden(settled.told(encoded), step), expected)
        if num_blocks:
            assert not torch.allclose(expected, told[0])
    hidden = network(told[0], torch.zeros(7, dtype=torch.long), *told[1:])
    heads = hidden.view(7, num_heads, -1)
    length = (heads.square().sum(dim=-1, keepdim=True) + SOFT_LENGTH**2).sqrt()
    expected = heads / (length * math.sqrt(num_heads) * TEMPERATURE)
    torch.testing.assert_close(settled(encoded), expected.view(7, -1))
    assert not any(p.requires_grad for p in settled.state_dict().values())


def test_the_linear_path_stands_beside_it_with_one_length():
    gate, network = parts(2, 1, 2)
    settled = SettledPass(
        gate, everybody(2), network, TEMPERATURE, linear_rank=3, linear_weight=0.7
    )
    encoded = torch.randn(5, 4 * CHANNELS + 3, dtype=torch.float64)
    alone = SettledPass(gate, everybody(2), network, TEMPERATURE)
    vectors = settled(encoded)
    torch.testing.assert_close(vectors[:, :-3], alone(encoded[:, :-3]))
    torch.testing.assert_close(vectors[:, -3:], 0.7 * F.normalize(encoded[:, -3:], dim=1))


@pytest.mark.parametrize("num_heads", [1, 2])
def test_it_keeps_its_weights(num_heads):
    gate, network = parts(num_heads, 1, 2)
    settled = SettledPass(gate, everybody(2), network, TEMPERATURE)
    encoded = torch.randn(4, 4 * CHANNELS, dtype=torch.float64)
    before = settled(encoded)
    with torch.no_grad():
        for p in (*gate.parameters(), *network.parameters()):
            p += 1
    assert torch.equal(settled(encoded), before)
