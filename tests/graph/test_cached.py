"""Results that models derive from one graph and share."""

import copy
import io
import pickle

import pytest
import torch

from graphdiff.graph import RecGraph, item_to_user_graph, similarity_graph, user_item_graph
from graphdiff.models import MODELS
from graphdiff.transforms import DropFeatures
from tests.conftest import random_data

# Two settings of each model whose derived graphs or tables differ.
VARIANTS = {
    "lattice": [{"num_neighbors": 2}, {"num_neighbors": 4}],
    "freedom": [{}, {"modality_weights": {"image": 0.9, "text": 0.1}}],
    "lgmrec": [{"num_modality_layers": 1}, {"num_modality_layers": 2}],
    "ld4mrec": [{}],
}


def degree(graph, factor=1):
    return factor * graph.item_degree()


@pytest.fixture
def data():
    return DropFeatures(0.3)(random_data(features={"image": 6, "text": 5}))


@pytest.fixture
def graph(data):
    return RecGraph.from_data(data)


def scores(model):
    with torch.no_grad():
        return model.eval()(torch.arange(model.num_users))


def made(model_class, settings, graph):
    torch.manual_seed(0)
    model = model_class(model_class.Config(**settings), graph)
    if model.batch_over == "nothing":
        model.solve()
    return model


def test_models_that_share_a_graph_answer_as_if_it_were_their_own(data):
    shared = RecGraph.from_data(data)
    todo = [(name, settings) for name in sorted(MODELS) for settings in VARIANTS.get(name, [{}])]
    # Forwards, each finds what those before it cached; backwards, what those after it cached.
    for name, settings in [*todo, *reversed(todo)]:
        own = scores(made(MODELS[name], settings, RecGraph.from_data(data)))
        assert torch.equal(scores(made(MODELS[name], settings, shared)), own), (name, settings)


def test_similarity_graphs_of_two_scales_are_kept_apart(graph):
    halves = graph.cached(similarity_graph, {"image": 0.5})
    whole = graph.cached(similarity_graph, {"image": 1.0})
    torch.testing.assert_close(2 * halves.matrix.to_dense(), whole.matrix.to_dense())
    assert graph.cached(similarity_graph, {"image": 0.5}) is halves


def test_a_graph_with_more_items_leaves_the_shared_one_alone(data):
    graph = RecGraph.from_data(data)
    ours, other = (made(MODELS[name], {}, graph) for name in ("ld4mrec", "smore"))
    before = scores(other)
    ours.add_items({"image": torch.randn(3, 6)})
    assert (ours.graph.num_items, other.graph.num_items) == (12, 9)
    # What is derived from the grown graph has its size, whoever asks first.
    for name, share in (("image", 0.5), ("text", 1.0)):
        dense = ours.graph.cached(similarity_graph, {name: share}).matrix.to_dense()
        assert dense.shape == (12, 12)
        (source, target), weight = ours.graph.similar(name)
        expected = torch.zeros(12, 12)
        expected[target, source] = share * weight
        torch.testing.assert_close(dense, expected)
    assert scores(ours).shape == (12, 12)
    assert torch.equal(scores(other), before)


def test_a_result_is_built_once_per_arguments(graph):
    assert graph.cached(degree) is graph.cached(degree)
    assert torch.equal(graph.cached(degree, 3), 3 * graph.cached(degree))
    assert torch.equal(graph.cached(degree, factor=2), 2 * graph.cached(degree))
    first = graph.cached(user_item_graph)
    graph.clear_cache()
    assert graph.cached(user_item_graph) is not first


def test_builders_with_hidden_inputs_are_refused(graph):
    factor = 2

    class Model:
        def build(self, graph):
            return graph.item_degree()

    with pytest.raises(TypeError, match="depends on more than its arguments"):
        graph.cached(lambda graph: factor * graph.item_degree())
    with pytest.raises(TypeError, match=r"Model\.build depends on more"):
        graph.cached(Model().build)


def test_another_dtype_and_a_loaded_state_drop_what_was_derived(graph):
    graph.cached(item_to_user_graph)
    graph.cached(_features)
    assert graph.double().cached(_features).dtype == torch.float64
    state = graph.state_dict()
    state["x_image"] = state["x_image"] + 1
    graph.load_state_dict(state)
    assert torch.equal(graph.cached(_features), state["x_image"])


def _features(graph):
    return graph.features("image")[0]


def unpickled(graph):
    return pickle.loads(pickle.dumps(graph))  # noqa: S301


def saved_and_loaded(graph):
    file = io.BytesIO()
    torch.save(graph, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, unpickled, saved_and_loaded],
)
def test_copies_have_a_cache_of_their_own(graph, duplicate):
    kept = graph.cached(item_to_user_graph)
    size = len(pickle.dumps(RecGraph.from_tensors(graph.state_dict(), graph.num_items)))
    assert len(pickle.dumps(graph)) == size
    twin = duplicate(graph)
    for name, tensor in graph.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor)
    assert twin.cached(item_to_user_graph) is not kept
    assert graph.cached(item_to_user_graph) is kept
