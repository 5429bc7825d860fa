"""Indices in one user's request never change another user's answer."""

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphdiff.errors import GraphDiffError
from graphdiff.models import MODELS
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import Program, export
from tests.conftest import make_model, random_data
from tests.serving.client import local, make

NUM, K = 40, 8
far = st.sampled_from([-1, -2, -NUM, NUM, NUM + 1, 2 * NUM, 2**31, 2**62, -(2**63), 2**63 - 1])
inside = st.integers(0, NUM - 1)
batches = st.lists(st.lists(st.one_of(inside, far), max_size=7), min_size=1, max_size=5)
valid_batches = st.lists(st.lists(inside, max_size=7), min_size=1, max_size=5)
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def model():
    return make()


def valid(row):
    return [item for item in row if 0 <= item < NUM]


def ragged(rows):
    items = torch.tensor([item for row in rows for item in row], dtype=torch.long)
    return items, torch.tensor([0, *map(len, rows)]).cumsum(0)[:-1]


@pytest.fixture(scope="module")
def programs(model, tmp_path_factory):
    """The program as a module, exported for torch, and as ONNX."""
    folder = tmp_path_factory.mktemp("programs")
    found = {"module": Program(model, K)}
    export(model, folder / "model.pt2", "torch", K)
    found["torch"] = torch.export.load(folder / "model.pt2").module()
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(model, folder / "model.onnx", "onnx", K)
    session = runtime.InferenceSession(folder / "model.onnx")

    def by_onnx(items, offsets):
        given = {"history_index": items.numpy(), "offsets": offsets.numpy()}
        return [torch.from_numpy(one) for one in session.run(None, given)]

    return found | {"onnx": by_onnx}


@pytest.mark.parametrize("kind", ["module", "torch", "onnx"])
def test_kind_a_programs_drop_indices_out_of_range(model, programs, kind):
    program = programs[kind]

    @many
    @example([[1, 2], [5, -1]])  # once changed the answer of the first
    @example([[1, 2, NUM], [5]])  # once gave item 0 to the second
    @example([[-1], [], [NUM]])
    @given(batches)
    def check(rows):
        item, score = program(*ragged(rows))
        expected = model.recommend(history_index=[valid(row) for row in rows], k=K)
        assert torch.equal(item, expected[0])
        torch.testing.assert_close(score, expected[1], rtol=0, atol=1e-4)
        for n, row in enumerate(rows):
            alone = program(*ragged([row]))
            assert torch.equal(alone[0][0], item[n])

    check()


@pytest.mark.parametrize("kind", ["module", "torch", "onnx"])
def test_kind_a_lists_can_be_padded(programs, kind):
    program = programs[kind]
    rows = [[3, 14, 15], [9], []]
    filled = [row + [-1] * (5 - len(row)) for row in rows]
    for found, expected in zip(program(*ragged(filled)), program(*ragged(rows)), strict=True):
        torch.testing.assert_close(found, expected)


def test_kind_a_entries_before_the_first_offset_are_dropped(programs):
    items, offsets = torch.tensor([7, 8, 1, 2, 5]), torch.tensor([2, 4])
    expected = programs["module"](*ragged([[1, 2], [5]]))
    for program in programs.values():
        assert torch.equal(program(items, offsets)[0], expected[0])


def askers(model):
    """Yield ``recommend`` of the model and, if faiss is installed, of an index."""
    yield model.recommend
    pytest.importorskip("faiss")
    yield RetrievalIndex(model, approximate=False).recommend


def test_kind_a_recommend_and_index_refuse_indices_out_of_range(model):
    def checked(recommend):
        @many
        @given(batches)
        def check(rows):
            if rows != [valid(row) for row in rows]:
                with pytest.raises(GraphDiffError, match="0 to 39"):
                    recommend(history_index=rows, k=K)
                return
            item, _ = recommend(history_index=rows, k=K)
            for n, row in enumerate(rows):
                alone, _ = recommend(history_index=[row], k=K)
                assert torch.equal(alone[0], item[n])

        return check

    for recommend in askers(model):
        checked(recommend)()


pairs = st.tuples(
    st.one_of(st.integers(0, 2), st.sampled_from([-1, 3, 2**40])), st.one_of(inside, far)
)


def test_kind_a_excluded_pairs_stay_with_their_user(model):
    rows = [[1, 2], [5], [7, 8, 9]]

    def checked(recommend):
        plain, _ = recommend(history_index=rows, k=K)

        @many
        @example([(0, NUM)])
        @example([(1, -1)])
        @example([(3, 0)])
        @given(st.lists(pairs, min_size=1, max_size=6))
        def check(excluded):
            row, item = torch.tensor(excluded).t()
            if not all(0 <= r < 3 and 0 <= i < NUM for r, i in excluded):
                with pytest.raises(GraphDiffError):
                    recommend(history_index=rows, k=K, exclude_index=(row, item))
                return
            found, _ = recommend(history_index=rows, k=K, exclude_index=(row, item))
            for n in range(3):
                own = {i for r, i in excluded if r == n}
                assert not own & set(found[n].tolist())
                if not own:
                    assert torch.equal(found[n], plain[n])

        return check

    for recommend in askers(model):
        checked(recommend)()


@pytest.mark.parametrize(
    ("row", "item"), [(0, NUM), (0, -1), (-1, 0), (2, 0), (0, 2**40), (2**40, 0)]
)
def test_kind_a_a_search_refuses_pairs_out_of_range(model, row, item):
    pytest.importorskip("faiss")
    index = RetrievalIndex(model, approximate=False)
    vectors = torch.randn(2, model.cached_tables().item.size(1))
    with pytest.raises(GraphDiffError, match=r"exclude has (row|item) -?\d+; expected 0 to"):
        index.search(vectors, K, (torch.tensor([row]), torch.tensor([item])))
    with pytest.raises(GraphDiffError, match=r"expected torch.bool of shape \[40\]"):
        index.search(vectors, K, allowed=torch.ones(NUM + 1, dtype=torch.bool))


@pytest.mark.parametrize("name", ["ease", "diffrec", "multvae", "itemknn"])
def test_kind_a_other_models_that_fold_in(name):
    model = make_model(MODELS[name], random_data(30, NUM, density=0.15))

    @many
    @given(batches)
    def check(rows):
        if rows != [valid(row) for row in rows]:
            with pytest.raises(GraphDiffError):
                model.recommend(history_index=rows, k=K)
            return
        _, score = model.recommend(history_index=rows, k=K)
        for n, row in enumerate(rows):
            alone = model.recommend(history_index=[row], k=K)[1]
            torch.testing.assert_close(alone[0], score[n], rtol=1e-4, atol=1e-4)

    check()


def test_kind_a_the_service_answers_each_as_if_alone(model):
    with local(model, batch=8, wait=0.05) as client:
        service = client.app.state.service

        async def together(rows):
            import asyncio

            post = client._client.post
            asked = [post("/recommend", json={"history_index": row, "k": K}) for row in rows]
            return await asyncio.gather(*asked)

        @settings(many, max_examples=25)
        @example([[1, 2], [5, -1]])
        @example([[1, 2, NUM], [5]])
        @given(batches)
        def check(rows):
            assert service.batcher.waiting == 0
            for row, answer in zip(rows, client._run(together(rows)), strict=True):
                if not row or row != valid(row):
                    assert answer.status_code == 422
                    continue
                expected, _ = model.recommend(history_index=[row], k=K)
                found = [one["item_index"] for one in answer.json()["items"]]
                assert found == expected[0].tolist()

        check()
