"""Signals and the gate on plain tensors, against dense matrices."""

import pytest
import torch

from graphdiff.graph.propagation import FixedGraph
from graphdiff.nn.signals import (
    CollaborativeSignal,
    EvaluatedGate,
    ModalityGate,
    ModalitySignal,
    freeze_gate,
)

NUM_ITEMS, NUM_USERS, CHANNELS = 6, 4, 5


def random_graph(num_sources, num_targets, seed=0):
    """A random weighted graph and its matrix, targets by sources."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(num_targets, num_sources, generator=generator)
    matrix = matrix * (torch.rand(num_targets, num_sources, generator=generator) < 0.5)
    target, source = matrix.nonzero(as_tuple=True)
    graph = FixedGraph(
        torch.stack([source, target]), matrix[target, source], num_sources, num_targets
    )
    return graph, matrix


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_collaborative_signal_is_the_mean_of_round_trips(num_layers):
    graph, matrix = random_graph(NUM_ITEMS, NUM_USERS)
    table = torch.randn(NUM_ITEMS, CHANNELS)
    trip = matrix.t() @ matrix
    powers = [torch.linalg.matrix_power(trip, n) @ table for n in range(num_layers + 1)]
    found = CollaborativeSignal(num_layers)(table, graph)
    torch.testing.assert_close(found, torch.stack(powers).mean(dim=0))


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_the_modality_signal_smooths_the_table(num_layers):
    graph, matrix = random_graph(NUM_ITEMS, NUM_ITEMS)
    signal = ModalitySignal(num_layers, weight=1.7)
    target, source = matrix.nonzero(as_tuple=True)
    scaled = signal.edge_share * matrix[target, source]
    graph = FixedGraph(torch.stack([source, target]), scaled, NUM_ITEMS, NUM_ITEMS)
    table, has = torch.randn(NUM_ITEMS, CHANNELS), torch.arange(NUM_ITEMS) != 2
    expected = 1.7 * torch.linalg.matrix_power(matrix, num_layers) @ table
    if num_layers == 0:
        expected[2] = 0
    torch.testing.assert_close(signal(table, has, graph), expected)


def test_gradients_flow_through_both_signals():
    graph, _ = random_graph(NUM_ITEMS, NUM_USERS)
    table = torch.randn(NUM_ITEMS, CHANNELS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: CollaborativeSignal(2)(x, graph), [table])
    similar, _ = random_graph(NUM_ITEMS, NUM_ITEMS)
    has = torch.ones(NUM_ITEMS, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: ModalitySignal(1, 2.0)(x, has, similar), [table])


def random_gate(num_modalities):
    torch.manual_seed(0)
    gate = ModalityGate(num_modalities, CHANNELS).double()
    for p in gate.parameters():
        torch.nn.init.normal_(p, std=0.5)
    weight = torch.arange(1, num_modalities + 1, dtype=torch.float64)
    return gate, weight / weight.sum()


def preferences(num_modalities):
    x = torch.randn(7, num_modalities, CHANNELS, dtype=torch.float64)
    x[3] = 0  # a user without history
    if num_modalities > 1:
        x[4, -1] = 0  # whose items lack the last modality
    return x


def test_a_new_gate_has_the_global_weights_of_the_modalities_present():
    shares = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    gate = ModalityGate(3, CHANNELS).double()
    found = gate(preferences(3), shares)
    torch.testing.assert_close(found[0], shares)
    torch.testing.assert_close(found[4], torch.tensor([0.4, 0.6, 0]).double())
    assert found[3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_a_trained_gate_follows_its_equation(num_modalities):
    gate, shares = random_gate(num_modalities)
    x = preferences(num_modalities)
    normed = torch.nn.functional.layer_norm(x, [CHANNELS])
    logit = shares.log() + (normed * gate.weight).sum(dim=-1) + gate.bias
    expected = logit.softmax(dim=1)
    found = gate(x, shares)
    torch.testing.assert_close(found[:3], expected[:3])
    assert found[3].sum() == 0


@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_the_inference_form_of_a_gate_computes_the_same(num_modalities):
    gate, shares = random_gate(num_modalities)
    frozen, x = gate.freeze(shares), preferences(num_modalities)
    expected = gate(x, shares)
    torch.testing.assert_close(frozen(x), expected)
    with torch.no_grad():
        gate.weight += 1
        shares.fill_(1)
    torch.testing.assert_close(frozen(x), expected)
    assert not frozen(x).requires_grad


def test_users_without_history_have_no_gradient():
    gate, shares = random_gate(2)
    x = preferences(2).requires_grad_()
    gate(x, shares)[3:5].sum().backward()
    assert x.grad.isfinite().all()
    assert gate.weight.grad.isfinite().all()


class Even(torch.nn.Module):
    """A gate without an inference form of its own."""

    def forward(self, preference, shares):
        return preference.any(dim=-1) / shares.numel() + 0 * shares


def test_a_gate_without_inference_form_is_called_in_evaluation_mode():
    frozen = freeze_gate(Even(), torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert isinstance(frozen, EvaluatedGate)
    assert not frozen.training or not frozen.gate.training
    assert frozen(preferences(2))[0].tolist() == [0.5, 0.5]
