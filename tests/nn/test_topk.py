import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.nn.topk import largest_of_rows, topk_blocks, topk_inner_product
from tests.watch import ForbidShape


def naive(score, k, exclude=None, allowed=None):
    """The whole matrix, sorted: the lower index first among equals."""
    score = score.float()
    if exclude is not None:
        score = score.index_put(exclude, torch.tensor(-torch.inf))
    if allowed is not None:
        score = score.masked_fill(~allowed, -torch.inf)
    value, index = score.sort(dim=1, descending=True, stable=True)
    value, index = value[:, :k], index[:, :k]
    return value, index.masked_fill(value == -torch.inf, -1)


def blocks_of(score):
    return lambda start, stop: score[:, start:stop].clone()


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0)


@st.composite
def problems(draw):
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    # Few distinct values make ties at every boundary; many make none.
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    score = torch.randint(-levels, levels, (num_users, num_items), generator=generator).float()
    num_pairs = draw(st.integers(0, 2 * num_users * num_items))
    exclude = (
        torch.randint(num_users, (num_pairs,), generator=generator),
        torch.randint(num_items, (num_pairs,), generator=generator),
    )
    allowed = torch.rand(num_items, generator=generator) < draw(st.sampled_from([0.3, 1.0]))
    return {
        "score": score,
        "k": draw(st.integers(1, num_items)),
        "exclude": draw(st.sampled_from([None, exclude])),
        "allowed": draw(st.sampled_from([None, allowed])),
        "block_size": draw(st.sampled_from([None, *range(1, num_items + 3)])),
    }


@settings(max_examples=300, deadline=None)
@given(problems())
def test_blocks_equal_the_whole_matrix_with_ties(problem):
    score, block_size = problem.pop("score"), problem.pop("block_size")
    found = topk_blocks(blocks_of(score), *score.shape, **problem, block_size=block_size)
    assert_same(found, naive(score, **problem))


@settings(max_examples=100, deadline=None)
@given(
    problems(),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_inner_product_equals_the_whole_matrix(problem, dtype, with_bias, seed):
    generator = torch.Generator().manual_seed(seed)
    num_users, num_items = problem.pop("score").shape
    block_size = problem.pop("block_size")
    # Small integers: sums are exact in every dtype and in every order, so ties are true ties.
    user, item, bias = (
        torch.randint(-2, 3, shape, generator=generator).to(dtype)
        for shape in ((num_users, 3), (num_items, 3), (num_items,))
    )
    bias = bias if with_bias else None
    score = user @ item.t() if bias is None else user @ item.t() + bias
    value, index = topk_inner_product(user, item, bias, **problem, block_size=block_size)
    assert (value.dtype, index.dtype) == (torch.float32, torch.long)
    assert_same((value, index), naive(score, **problem))


@pytest.mark.parametrize("length", [20, 639, 640, 1200, 1279, 1280, 3000])
def test_largest_values_of_rows_of_any_length(length):
    score = torch.randn(5, length, generator=torch.Generator().manual_seed(0))
    score[0, 3:] = -torch.inf  # Three values are left.
    before = score.clone()
    value, column = largest_of_rows(score, 20)
    expected = score.topk(20, dim=1)
    assert torch.equal(value, expected.values)
    assert torch.equal(column[1:], expected.indices[1:])
    assert torch.equal(column[0, :3], expected.indices[0, :3])
    assert column.max() < length
    assert torch.equal(score, before)


def test_real_scores_of_many_blocks():
    generator = torch.Generator().manual_seed(0)
    user = torch.randn(50, 16, generator=generator, requires_grad=True)
    item = torch.randn(3000, 16, generator=generator)
    bias = torch.randn(3000, generator=generator)
    exclude = (
        torch.randint(50, (900,), generator=generator),
        torch.randint(3000, (900,), generator=generator),
    )
    value, index = topk_inner_product(user, item, bias, 20, exclude, block_size=256)
    expected = naive((user @ item.t() + bias).detach(), 20, exclude)
    torch.testing.assert_close(value, expected[0])
    assert torch.equal(index, expected[1])
    assert not value.requires_grad


def test_both_zeros_are_equal():
    score = torch.tensor([[-0.0, 0.0, -0.0, -1e-45, 1e-45]])
    for block_size in (1, 2, 5):
        _, index = topk_blocks(blocks_of(score), 1, 5, k=4, block_size=block_size)
        assert index.tolist() == [[4, 0, 1, 2]]


def test_end_is_filled_where_candidates_run_out():
    score = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    exclude = (torch.tensor([0, 0, 1, 0]), torch.tensor([0, 2, 2, 0]))
    allowed = torch.tensor([True, False, True])
    value, index = topk_blocks(blocks_of(score), 2, 3, 3, exclude, allowed, block_size=2)
    assert index.tolist() == [[-1, -1, -1], [0, -1, -1]]
    assert value.tolist() == [[-torch.inf] * 3, [1.0, -torch.inf, -torch.inf]]


def test_a_score_of_minus_infinity_means_left_out():
    score = torch.tensor([[-torch.inf, 1.0, -torch.inf]])
    assert topk_blocks(blocks_of(score), 1, 3, k=2)[1].tolist() == [[1, -1]]


def test_no_users():
    value, index = topk_inner_product(torch.ones(0, 4), torch.ones(9, 4), None, k=2, block_size=4)
    assert value.shape == index.shape == (0, 2)


def largest_tensor(num_items, tied):
    generator = torch.Generator().manual_seed(0)
    user = torch.randn(37, 2, generator=generator) * (not tied)
    item = torch.randn(num_items, 2, generator=generator)
    exclude = (torch.arange(37), torch.arange(37))
    with ForbidShape((37, num_items)) as watch:
        topk_inner_product(user, item, None, 5, exclude, block_size=100)
    return watch.largest


@pytest.mark.parametrize("tied", [False, True])
def test_memory_does_not_grow_with_the_catalogue(tied):
    assert largest_tensor(1000, tied) == largest_tensor(4000, tied) == 37 * 100


def test_the_watcher_sees_what_it_forbids():
    row, column = torch.ones(37, 1), torch.ones(1, 11)
    for shape in ((37, 11), (11, 37)):
        with pytest.raises(AssertionError, match=r"\[37, 11\]"), ForbidShape(shape):
            row * column
    with pytest.raises(AssertionError, match=r"\[407\]"), ForbidShape((37, 11)):
        torch.zeros(407)
    with ForbidShape((37, 11)) as watch:
        row.expand(37, 11)
        row + 1
    assert (watch.largest, watch.shape_of_largest) == (37, (37, 1))
    weight = torch.ones(37, 11, requires_grad=True)
    loss = (row.t() @ weight).sum()
    with pytest.raises(AssertionError, match="made a tensor"), ForbidShape((37, 11)):
        loss.backward()


@pytest.mark.parametrize("k", [0, 4, -1])
def test_k_out_of_range(k):
    with pytest.raises(ConfigError, match=rf"k = {k} with a catalogue of 3 items; .* from 1 to 3"):
        topk_inner_product(torch.ones(2, 4), torch.ones(3, 4), None, k)


def test_block_size_out_of_range():
    with pytest.raises(ConfigError, match="block_size = 0"):
        topk_inner_product(torch.ones(2, 4), torch.ones(3, 4), None, 1, block_size=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item": torch.ones(3, 5)}, r"user has shape \[2, 4\] and item \[3, 5\]"),
        ({"bias": torch.ones(4)}, r"bias has shape \[4\] but there are 3 items"),
        ({"allowed": torch.ones(3)}, r"expected torch.bool of shape \[3\]"),
        ({"exclude": (torch.tensor([0]), torch.tensor([0, 1]))}, "of the same length"),
        ({"exclude": (torch.tensor([0]), torch.tensor([3]))}, "column 3; expected 0 to 2"),
        ({"exclude": (torch.tensor([0]), torch.tensor([-1]))}, "column -1; expected 0 to 2"),
        ({"exclude": (torch.tensor([2]), torch.tensor([0]))}, "row 2; expected 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"user": torch.ones(2, 4), "item": torch.ones(3, 4), "bias": None, "k": 1}
    with pytest.raises(DataError, match=message):
        topk_inner_product(**(arguments | changes))


def test_a_block_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"score_block\(0, 3\) returned shape \[2, 4\]"):
        topk_blocks(lambda start, stop: torch.ones(2, 4), 2, 3, k=1)


@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 7])
def test_a_score_that_is_no_number_is_refused(bad, place):
    score = torch.zeros(2, 8)
    score[1, place] = bad
    with pytest.raises(GraphDiffError, match="infinite for 1 of 2 users"):
        topk_blocks(blocks_of(score), 2, 8, k=2, block_size=3)
    # An item that is left out may score what it likes.
    exclude = (torch.tensor([1]), torch.tensor([place]))
    assert (topk_blocks(blocks_of(score), 2, 8, 2, exclude, block_size=3)[0] == 0).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_equals_cpu(dtype):
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(-3, 4, (64, 8), generator=generator).to(dtype)
    item = torch.randint(-3, 4, (5000, 8), generator=generator).to(dtype)
    exclude = (
        torch.randint(64, (900,), generator=generator),
        torch.randint(5000, (900,), generator=generator),
    )
    found = topk_inner_product(
        user.cuda(), item.cuda(), None, 20, tuple(t.cuda() for t in exclude), block_size=512
    )
    expected = topk_inner_product(user, item, None, 20, exclude)
    assert_same([t.cpu() for t in found], expected)
