"""The one pass against its parts in training form."""

import pytest
import torch

from graphdiff.models import Popularity
from graphdiff.models.ld4mrec.inference import InferencePass
from graphdiff.models.ld4mrec.linear_path import LinearPath
from graphdiff.models.ld4mrec.row_signals import row_signals
from graphdiff.nn.cnet import CNet
from graphdiff.nn.heads import CosineHeads
from graphdiff.nn.signals import ModalityGate
from tests.conftest import make_model, random_data

CHANNELS, TEMPERATURE = 16, 0.3


def parts(num_heads, num_blocks, num_modalities):
    torch.manual_seed(0)
    gate = ModalityGate(num_modalities, CHANNELS).double()
    cnet = CNet(CHANNELS, num_heads, num_blocks, num_steps=5).double()
    for p in (*gate.parameters(), *cnet.parameters()):
        torch.nn.init.normal_(p, std=0.5)
    weight = torch.arange(1, num_modalities + 1, dtype=torch.float64)
    return gate, weight / weight.sum(), cnet, CosineHeads(num_heads, TEMPERATURE).double()


@pytest.mark.parametrize(
    ("num_heads", "num_blocks", "num_modalities"), [(1, 1, 1), (2, 1, 2), (2, 3, 0), (4, 0, 3)]
)
def test_one_pass_computes_the_same_as_the_training_forms(num_heads, num_blocks, num_modalities):
    gate, shares, cnet, heads = parts(num_heads, num_blocks, num_modalities)
    one_pass = InferencePass(gate, shares, cnet, heads, CHANNELS)
    encoded = torch.randn(7, (2 + num_modalities) * CHANNELS, dtype=torch.float64)
    encoded[3] = 0  # a user without history
    if num_modalities > 1:
        encoded[4, -CHANNELS:] = 0  # whose items lack the last modality
    signals = row_signals(encoded[:, CHANNELS:], gate, shares)
    behaviour = encoded[:, :CHANNELS] + signals.gate_residual
    found = one_pass.signals(encoded)
    for one, expected in zip(
        found, (behaviour, signals.collaborative, signals.preference), strict=True
    ):
        torch.testing.assert_close(one, expected)
    for step in (0, 3, 5):
        t = torch.full((7,), step)
        expected = cnet(behaviour, t, signals.collaborative, signals.preference)
        torch.testing.assert_close(one_pass.cnet(found[0], step, *found[1:]), expected)
        if num_blocks:
            assert not torch.allclose(expected, behaviour)
    t = torch.zeros(7, dtype=torch.long)
    hidden = cnet(behaviour, t, signals.collaborative, signals.preference)
    torch.testing.assert_close(one_pass(encoded), heads(hidden))
    assert not any(p.requires_grad for p in one_pass.state_dict().values())


def test_the_gate_residual_is_the_difference_to_the_global_weights():
    gate, shares, _, _ = parts(1, 1, 2)
    encoded = torch.randn(5, 3 * CHANNELS, dtype=torch.float64)
    signals = row_signals(encoded, gate, shares)
    content = encoded[:, CHANNELS:].view(5, 2, CHANNELS)
    weight = (signals.gate - shares).unsqueeze(-1)
    torch.testing.assert_close(signals.gate_residual, (weight * content).sum(dim=1))
    torch.testing.assert_close(
        signals.preference, (signals.gate.unsqueeze(-1) * content).sum(dim=1)
    )
    torch.testing.assert_close(signals.collaborative, encoded[:, :CHANNELS])


def test_the_linear_path_stands_beside_it():
    gate, shares, cnet, heads = parts(2, 1, 2)
    graph = make_model(Popularity, random_data(20, 10)).graph
    path = LinearPath(graph, 4, rank=3, num_sampled=8, content_rank=0, shrinkage=1.0).double()
    path.reset_parameters()
    path.weight.fill_(0.7)
    one_pass = InferencePass(gate, shares, cnet, heads, CHANNELS, path)
    encoded = torch.randn(5, 4 * CHANNELS + 8, dtype=torch.float64)
    alone = InferencePass(gate, shares, cnet, heads, CHANNELS)
    vectors = one_pass(encoded)
    torch.testing.assert_close(vectors[:, :-8], alone(encoded[:, :-8]))
    torch.testing.assert_close(vectors[:, -8:], path.freeze()(encoded[:, -8:]))


@pytest.mark.parametrize("num_heads", [1, 2])
def test_it_keeps_its_weights(num_heads):
    gate, shares, cnet, heads = parts(num_heads, 1, 2)
    one_pass = InferencePass(gate, shares, cnet, heads, CHANNELS)
    encoded = torch.randn(4, 4 * CHANNELS, dtype=torch.float64)
    before = one_pass(encoded)
    with torch.no_grad():
        for p in (*gate.parameters(), *cnet.parameters(), *heads.parameters()):
            p += 1
    assert torch.equal(one_pass(encoded), before)
