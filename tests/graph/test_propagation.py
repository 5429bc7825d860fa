"""Message passing gives the same scores whichever sparse kernels are installed."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch_geometric.typing import WITH_TORCH_SPARSE

from graphdiff import FREEDOM, LightGCN
from graphdiff.graph import propagation
from graphdiff.graph.message_graphs import user_item_graph
from graphdiff.graph.propagation import (
    FixedConv,
    FixedGraph,
    mean_layer,
    propagate,
    symmetric_norm,
)
from tests.conftest import random_data

KINDS = [
    False,
    pytest.param(
        True, marks=pytest.mark.skipif(not WITH_TORCH_SPARSE, reason="torch-sparse not installed")
    ),
]

SCORES = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
import torch
from torch_geometric.typing import WITH_TORCH_SPARSE
assert not WITH_TORCH_SPARSE if {hidden!r} else True
import graphdiff
from tests.conftest import random_data
data = random_data(features={{"image": 6}})
scores = []
for name in ("LD4MRec", "LightGCN", "FREEDOM", "MGCN", "SMORE", "LGMRec"):
    torch.manual_seed(0)
    model = getattr(graphdiff, name).from_data(data, hidden_channels=8).eval()
    with torch.no_grad():
        scores.append(model(torch.arange(12)))
torch.save(torch.stack(scores), sys.argv[1])
"""


def graph(use_torch_sparse=False):
    """A bipartite graph from 10 sources to 7 targets, and its dense matrix."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(7, 10, generator=generator)
    matrix[matrix < 0.6] = 0
    target, source = matrix.nonzero().t()
    edge_index = torch.stack([source, target])
    return FixedGraph(edge_index, matrix[target, source], 10, 7, use_torch_sparse), matrix


def test_symmetric_norm():
    edge_index = torch.tensor([[0, 0, 1, 2, 3], [2, 3, 2, 0, 0]])
    # Degrees out: 2, 1, 1, 1; in: 2 (node 0), 2 (node 2), 1 (node 3).
    expected = torch.tensor([4.0, 2.0, 2.0, 2.0, 2.0]).rsqrt()
    torch.testing.assert_close(symmetric_norm(*edge_index, 4, 4), expected)


def test_propagate_gives_each_layer_and_changes_it_before_the_next():
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    edge_weight = torch.tensor([0.5, 2.0, 1.0, 3.0])
    matrix = torch.zeros(3, 3)
    matrix[edge_index[1], edge_index[0]] = edge_weight
    x, ring = torch.randn(3, 4), FixedGraph(edge_index, edge_weight, 3, 3)
    plain = propagate(x, ring, 2)
    for found, expected in zip(plain, (x, matrix @ x, matrix @ matrix @ x), strict=True):
        torch.testing.assert_close(found, expected)
    changed = propagate(x, ring, 2, lambda layer: layer + 1)
    torch.testing.assert_close(changed[2], matrix @ (matrix @ x + 1) + 1)
    torch.testing.assert_close(mean_layer(plain), torch.stack(plain).mean(dim=0))


@pytest.mark.parametrize("use_torch_sparse", KINDS)
@pytest.mark.parametrize("turned", [False, True])
def test_one_hop_and_its_gradient_equal_a_dense_product(turned, use_torch_sparse):
    fixed, matrix = graph(use_torch_sparse)
    if turned:
        fixed, matrix = fixed.reversed(), matrix.t()
    x = torch.randn(matrix.size(1), 4, requires_grad=True)
    outer = torch.randn(matrix.size(0), 4)
    out, expected = FixedConv()(x, fixed), matrix @ x
    torch.testing.assert_close(out, expected)
    (found_grad,) = torch.autograd.grad((out * outer).sum(), x)
    (expected_grad,) = torch.autograd.grad((expected * outer).sum(), x)
    torch.testing.assert_close(found_grad, expected_grad)


def pickled(fixed):
    return pickle.loads(pickle.dumps(fixed))  # noqa: S301


@pytest.mark.parametrize("use_torch_sparse", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_passes_the_same_messages(copied, use_torch_sparse):
    fixed, matrix = graph(use_torch_sparse)
    other, x = copied(fixed), torch.randn(matrix.size(1), 4)
    assert torch.equal(FixedConv()(x, other), FixedConv()(x, fixed))
    outer = torch.randn(matrix.size(0), 4)
    turned = FixedConv()(outer, other.reversed())
    assert torch.equal(turned, FixedConv()(outer, fixed.reversed()))
    assert other.matrix is not fixed.matrix
    # A turned graph shares its matrices.
    assert fixed.reversed().matrix is fixed.transposed


@pytest.mark.parametrize("turned", [False, True])
def test_edges_alone_give_the_same_as_a_sparse_matrix(turned, monkeypatch):
    with_matrix, _ = graph()
    monkeypatch.setattr(propagation, "SPARSE_DEVICES", ())
    with_edges, _ = graph()
    assert with_edges.matrix is None
    if turned:
        with_matrix, with_edges = with_matrix.reversed(), with_edges.reversed()
    x = torch.randn(with_matrix.num_sources, 4)
    torch.testing.assert_close(FixedConv()(x, with_edges), FixedConv()(x, with_matrix))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "edges"])
def test_the_same_edges_take_other_weights(turned, kind, monkeypatch):
    if kind == "edges":
        monkeypatch.setattr(propagation, "SPARSE_DEVICES", ())
    fixed, matrix = graph(None if kind == "edges" else kind)
    # The edges in an order of their own.
    source, target = matrix.t().nonzero()[torch.randperm(int((matrix > 0).sum()))].t()
    old = matrix[target, source]
    fixed = FixedGraph(torch.stack([source, target]), old, 10, 7, None if kind == "edges" else kind)
    weight = torch.rand_like(old)
    weight[:3] = 0
    changed = fixed.reweighted((source, target), weight)
    expected = torch.zeros_like(matrix)
    expected[target, source] = weight
    # What was there is as it was, and its places are known from the first time on.
    pairs = [(fixed, matrix), (changed, expected)]
    pairs.append((changed.reweighted((source, target), 2 * weight), 2 * expected))
    for one, dense in pairs:
        if turned:
            one, dense = one.reversed(), dense.t()
        x = torch.randn(dense.size(1), 4, requires_grad=True)
        outer = torch.randn(dense.size(0), 4)
        out = FixedConv()(x, one)
        torch.testing.assert_close(out, dense @ x)
        (found_grad,) = torch.autograd.grad((out * outer).sum(), x)
        torch.testing.assert_close(found_grad, dense.t() @ outer)


def test_models_score_the_same_without_the_optional_kernels(tmp_path):
    scores = []
    for hidden in ([], ["torch_sparse", "torch_scatter"]):
        path = tmp_path / f"{len(hidden)}.pt"
        subprocess.run([sys.executable, "-c", SCORES.format(hidden=hidden), str(path)], check=True)
        scores.append(torch.load(path, weights_only=True))
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-5)


@pytest.mark.skipif(not WITH_TORCH_SPARSE, reason="torch-sparse not installed")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("model_class", [LightGCN, FREEDOM])
def test_models_use_sparse_tensors_on_a_gpu_where_installed(model_class):
    from torch_sparse import SparseTensor

    model = model_class.from_data(random_data(features={"image": 6}), hidden_channels=8).cuda()
    assert isinstance(user_item_graph(model.graph).matrix, SparseTensor)


@pytest.mark.parametrize("dtype", [torch.int32, torch.long])
def test_sorted_edges_and_their_weights_are_not_copied_on_a_cpu(dtype):
    edge_index = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 3]], dtype=dtype)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0])
    matrix = FixedGraph(edge_index, weight, 3, 4).matrix
    assert matrix.col_indices().data_ptr() == edge_index.data_ptr()
    assert matrix.values().data_ptr() == weight.data_ptr()
    x = torch.randn(3, 5)
    expected = torch.zeros(4, 5).index_add(
        0, edge_index[1].long(), x[edge_index[0]] * weight[:, None]
    )
    torch.testing.assert_close(FixedConv()(x, FixedGraph(edge_index, weight, 3, 4)), expected)
