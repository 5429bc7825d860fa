"""An index returns what its model does."""

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.models import MODELS
from graphdiff.serving import RetrievalIndex, index
from tests.conftest import make_model, random_data

pytest.importorskip("faiss")

USERS = [3, 0, 11]


@pytest.fixture(scope="module")
def large():
    """An LD4MRec over 3,000 items."""
    data = random_data(40, 3000, {"image": 6}, density=0.01)
    model = make_model(MODELS["ld4mrec"], data, hidden_channels=16).eval()
    torch.nn.init.normal_(model.bias, std=0.3)
    return model


def same(found, expected):
    """Items in the same order and scores up to rounding."""
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ld4mrec", "lightgcn", "diffrec", "vbpr", "popularity"])
def test_an_exact_index_returns_what_the_model_does(name):
    data = random_data(12, 60, {"image": 6, "text": 5})
    model = make_model(MODELS[name], data)
    found = RetrievalIndex(model, approximate=False)
    assert found.recall == 1
    expected = model.recommend(USERS, k=7)
    items, scores = found.recommend(USERS, k=7)
    torch.testing.assert_close(scores, expected[1], rtol=1e-4, atol=1e-4)
    if name != "popularity":  # whose scores tie
        assert torch.equal(items, expected[0])


def test_filters_work_as_in_the_model(large):
    found = RetrievalIndex(large, approximate=False)
    best = large.recommend(USERS, k=2)[0]
    exclude = (torch.tensor([0, 2]), best[[0, 2], [1, 0]])
    same(
        found.recommend(USERS, k=5, exclude_index=exclude),
        large.recommend(USERS, k=5, exclude_index=exclude),
    )
    same(
        found.recommend(USERS, k=5, exclude_seen=False),
        large.recommend(USERS, k=5, exclude_seen=False),
    )
    few = torch.tensor([17, 2900, 4, 1200, 33])
    same(
        found.recommend(USERS, k=4, candidate_index=few),
        large.recommend(USERS, k=4, candidate_index=few),
    )
    mask = torch.arange(3000) % 3 == 0
    same(
        found.recommend(USERS, k=30, candidate_index=mask),
        large.recommend(USERS, k=30, candidate_index=mask),
    )


def test_users_are_computed_from_their_histories(large):
    found = RetrievalIndex(large, approximate=False)
    lists = [[5, 2, 5], [], [2999]]
    same(found.recommend(history_index=lists, k=6), large.recommend(history_index=lists, k=6))


def test_lists_are_short_only_where_no_item_is_left(large):
    found = RetrievalIndex(large, recall=0.5, approximate=True, verbose=False)
    items, scores = found.recommend(0, k=8, candidate_index=[1, 2, 3])
    same((items, scores), large.recommend(0, k=8, candidate_index=[1, 2, 3]))
    assert (items[0, 3:] == -1).all()
    assert scores[0, 3:].isneginf().all()
    # A user who has seen all but six items, beside one who has seen a single item.
    heavy = large.recommend([0, 1], k=3000, exclude_seen=False)[0][0, :-6].tolist()
    lists = [heavy, [7]]
    items, _ = found.recommend(history_index=lists, k=6)
    assert set(items[0].tolist()) == set(range(3000)) - set(heavy)
    assert (items[1] >= 0).all()


def test_a_search_that_found_too_few_items_is_repeated(large, monkeypatch):
    found = RetrievalIndex(large, approximate=False)
    asked = []
    search = found._searcher.search

    def watched(vectors, k):
        asked.append((len(vectors), k))
        return search(vectors, k)

    monkeypatch.setattr(found._searcher, "search", watched)
    best = large.recommend([0, 1, 2, 3], k=200, exclude_seen=False)[0]
    # The 200 best items of one user are excluded, none of the others.
    exclude = (torch.ones(200, dtype=torch.long), best[1])
    expected = large.recommend([0, 1, 2, 3], k=10, exclude_seen=False, exclude_index=exclude)
    same(found.recommend([0, 1, 2, 3], k=10, exclude_seen=False, exclude_index=exclude), expected)
    assert [num for num, _ in asked] == [4, 1]


@pytest.mark.parametrize("factory", [None, "IVF64,Flat"])
def test_an_approximate_index_finds_the_wanted_share(large, factory, capfd):
    found = RetrievalIndex(large, approximate=True, factory=factory, recall=0.97)
    assert found.recall >= 0.97
    assert f"{found.recall:.1%} of the 20 best items found" in capfd.readouterr().err
    everyone = list(range(40))
    guess, scores = found.recommend(everyone, k=20)
    truth, _ = large.recommend(everyone, k=20)
    assert index.share_found(guess, truth) == pytest.approx(found.recall, abs=1e-6)
    seen = large.graph.rows(torch.arange(40))
    assert not (guess[seen.row] == seen.item.unsqueeze(1)).any()
    # Scores are the model's.
    with torch.no_grad():
        exact = large(torch.tensor(everyone)).gather(1, guess)
    torch.testing.assert_close(scores, exact, rtol=1e-4, atol=1e-4)


def test_little_effort_finds_less(large):
    careless = RetrievalIndex(large, factory="IVF64,Flat", recall=0.01, verbose=False)
    assert careless.approximate
    assert careless.recall < 0.9


def test_large_catalogues_are_searched_approximately(large, monkeypatch):
    assert not RetrievalIndex(large).approximate
    monkeypatch.setattr(index, "EXACT_UP_TO", 2999)
    assert RetrievalIndex(large, verbose=False).approximate


@pytest.mark.parametrize("approximate", [False, True])
def test_added_and_removed_items_do_not_rebuild_the_index(approximate, monkeypatch):
    data = random_data(12, 700, {"image": 6}, density=0.3)
    model = make_model(MODELS["ld4mrec"], data)
    found = RetrievalIndex(model, approximate, verbose=False)
    monkeypatch.setattr(found, "_build", None)
    new = model.add_items({"image": torch.randn(40, 6)})
    gone = model.recommend(0, k=1)[0][0]
    model.remove_items(gone)
    everyone = list(range(12))
    expected, _ = model.recommend(everyone, k=100)
    assert torch.isin(new, expected).any()
    items, _ = found.recommend(everyone, k=100)
    assert index.share_found(items, expected) > (0.9 if approximate else 0.9999)
    assert index.share_found(items[:, :1], expected[:, :1]) > 0.9
    assert torch.isin(new, items).any()
    assert gone not in items


def test_new_weights_rebuild_the_index():
    model = make_model(MODELS["lightgcn"], random_data(12, 60))
    found = RetrievalIndex(model, approximate=False)
    before = found.recommend(USERS, k=5)
    torch.manual_seed(9)
    model.reset_parameters()
    same(found.recommend(USERS, k=5), model.recommend(USERS, k=5))
    assert not torch.equal(found.recommend(USERS, k=5)[1], before[1])


def test_bad_requests_are_refused(large, monkeypatch):
    found = RetrievalIndex(large, approximate=False)
    with pytest.raises(ConfigError, match="k = 3001 with an index of 3000 items"):
        found.recommend(0, k=3001)
    with pytest.raises(ConfigError, match="exactly one of user_index, user_id, history"):
        found.recommend()
    with pytest.raises(ConfigError, match="recall = 0"):
        RetrievalIndex(large, recall=0)
    with pytest.raises(ConfigError, match="faiss cannot build an index from 'Nonsense'"):
        RetrievalIndex(large, factory="Nonsense")
    itemknn = make_model(MODELS["itemknn"], random_data())
    with pytest.raises(ConfigError, match="ItemKNN does not score by inner products"):
        RetrievalIndex(itemknn)
    monkeypatch.setattr(index, "has_faiss", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'graphdiff-rec\[index\]'"):
        RetrievalIndex(large)


@pytest.mark.parametrize("option", ["explore", "popularity_discount"])
@pytest.mark.parametrize("approximate", [False, True])
def test_what_reorders_all_items_is_refused(large, option, approximate):
    found = RetrievalIndex(large, approximate, verbose=False)
    message = f"{option} is 0.5, .* does not take explore and popularity_discount.*model.recommend"
    with pytest.raises(ConfigError, match=message):
        found.recommend(USERS, k=5, **{option: 0.5})
    plain = found.recommend(USERS, k=5)
    same(found.recommend(USERS, k=5, **{option: 0.0}), plain)  # the default of a model


def test_its_description(large):
    assert str(RetrievalIndex(large)) == "RetrievalIndex(LD4MRec, 3000, exact)"
