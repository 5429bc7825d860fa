"""What the service says of items: search, cards, explanations and similar items."""

import pytest
import torch

from graphdiff import MultVAE
from graphdiff.models.registry import MODELS
from graphdiff.schema import ItemDetails
from tests.conftest import make_model, random_data
from tests.serving.client import local, make

TITLES = ["Blue mug", "Red mug", "Mugwort tea", "Café-crème maker", "Big  red\tteapot", ""]


@pytest.fixture(scope="module")
def model():
    model = make()
    num = model.num_items
    title = [*TITLES, *(f"Thing {n}" for n in range(num - len(TITLES)))]
    image = ["https://pictures.example/0.png", *[""] * (num - 1)]
    model.catalogue.details = ItemDetails(num, {"title": title, "image": image})
    return model


@pytest.fixture(scope="module")
def client(model):
    with local(model, history=8, k=30, explained=3) as client:
        yield client


def found(client, **query):
    return [one["item_index"] for one in client.get("/items", params=query).json()["items"]]


def test_search_by_words_of_the_title_and_by_id(client):
    assert found(client, query="mug") == [2, 0, 1]  # a title that starts with it comes first
    assert found(client, query="RED") == [1, 4]
    assert found(client, query="tea red") == [4]
    assert found(client, query="cafe creme") == found(client, query="crème") == [3]
    assert found(client, query="ug") == []
    assert found(client, query="item-3", limit=3) == [3, 30, 31]
    assert found(client, query="thing 1", limit=1) == [7]
    assert found(client, query="\n") != []


def test_without_a_query_popular_items_come_first(client, model):
    degree = model.graph.item_degree()
    popular = found(client, limit=40)
    assert sorted(popular) == list(range(40))
    assert degree[popular].diff().max() <= 0


def test_cards_of_given_ids_and_of_new_items(client, model):
    answer = client.get("/items", params={"item": ["item-0", "item-39"]}).json()["items"]
    new = [not model.graph.item_degree()[n] for n in (0, 39)]
    assert new == [False, True]  # the last item of the data is cold
    assert answer == [
        {"item": "item-0", "item_index": 0, "title": "Blue mug", "category": None,
         "image": "https://pictures.example/0.png", "new": False},
        {"item": "item-39", "item_index": 39, "title": "Thing 33", "category": None, "image": None,
         "new": True},
    ]  # fmt: skip
    assert client.get("/items", params={"item": ["none"]}).status_code == 422
    best = client.post("/recommend", json={"history": ["item-1"], "k": 30}).json()["items"]
    assert {one["item_index"]: one["title"] for one in best} == {
        one["item_index"]: model.catalogue.details.title(one["item_index"]) or None for one in best
    }


def test_removed_items_are_not_found():
    model = make()
    model.remove_items([3])
    with local(model) as client:
        assert found(client, query="item-3", limit=2) == [30, 31]
        assert 3 not in found(client, limit=100)


def test_similar_items(client, model):
    index, cosine = model.similar_items(7, k=4)
    for query in ({"item": "item-7"}, {"item_index": 7}):
        answer = client.get("/similar", params={**query, "k": 4}).json()
        assert [one["item_index"] for one in answer["items"]] == index[0].tolist()
        scores = [one["score"] for one in answer["items"]]
        assert scores == pytest.approx(cosine[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({}, "give either item or item_index"),
        ({"item": "item-7", "item_index": 7}, "give either item or item_index"),
        ({"item": "none"}, "no item 'none'"),
        ({"item_index": 40}, "out of range"),
        ({"item_index": 7, "k": 31}, "over the limit of 30"),
        ({"item_index": 7, "k": 0}, "greater than or equal to 1"),
        ({"item_index": "7" * 5000}, "integer"),
    ],
)
def test_similar_items_that_cannot_be(client, query, reason):
    answer = client.get("/similar", params=query)
    assert answer.status_code == 422
    assert reason in answer.text


def test_explanations(client, model):
    body = {"history": ["item-0", "item-4"], "items": ["item-7", "item-9"], "num_items": 1}
    answer = client.post("/explain", json=body).json()
    by_index = {"history_index": [0, 4], "item_index": [7, 9], "num_items": 1}
    assert client.post("/explain", json=by_index).json() == answer
    for item, found in zip((7, 9), answer["explanations"], strict=True):
        expected = model.explain(item_index=item, history_index=[[0, 4]], num_items=1)
        assert found["item"]["item_index"] == item
        assert found["score"] == pytest.approx(expected.score, abs=1e-5)
        assert sum(found["parts"].values()) == pytest.approx(found["score"], abs=1e-5)
        remainder = found["parts"]["remainder"]
        assert sum(found["remainder"].values()) == pytest.approx(remainder, abs=1e-5)
        (past,) = found["history"]
        explained = found["score"] - remainder
        assert past["value"] + found["unnamed"] == pytest.approx(explained, abs=1e-5)
        assert [(one["item"]["item_index"], one["why"]) for one in found["because"]] == [
            (index, words) for index, words in expected.because()
        ]
        known = {found["item"]["item"], past["item"]["item"]}
        between = {one["item"] for one in found["between"]}
        assert not between & known
        ends = {end for link in found["links"] for end in (link["source"], link["target"])}
        assert between <= ends <= between | known
        assert len(found["links"]) == len(expected.links)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"history_index": [0]}, "give either items or item_index"),
        ({"item_index": [0]}, "give either history or history_index"),
        ({"history_index": [0], "item_index": [0], "items": ["item-0"]}, "give either items"),
        ({"history_index": [0], "item_index": []}, "at least 1 item"),
        ({"history_index": [0], "item_index": [1, 2, 3, 4]}, "items: 4 is over the limit of 3"),
        ({"history_index": [0] * 9, "item_index": [1]}, "history: 9 is over the limit of 8"),
        ({"history_index": [0], "item_index": [40]}, "out of range"),
        ({"history_index": [0], "item_index": [1], "num_items": 0}, "greater than or equal to 1"),
        ({"history_index": [0], "item_index": [1], "num_items": 101}, "less than or equal to 100"),
        ({"history_index": [0], "item_index": [True]}, "valid"),
        ({"history_index": [0], "item_index": [1], "k": 1}, "Extra inputs"),
    ],
)
def test_explanations_that_cannot_be(client, body, reason):
    answer = client.post("/explain", json=body)
    assert answer.status_code == 422
    assert reason in answer.text


def test_models_that_cannot_explain_or_compare_say_so():
    data = random_data(features={"image": 4})
    for name in ("multvae", "ease"):
        with local(make_model(MODELS[name], data)) as client:
            assert not client.get("/health").json()["explains"]
            body = {"history_index": [0], "item_index": [1]}
            assert client.post("/explain", json=body).status_code == 409
            recommended = client.post("/recommend", json={"history_index": [0]}).json()
            assert not recommended["gate_is_personal"]
    with local(make_model(MultVAE, data)) as client:
        assert client.get("/similar", params={"item_index": 0}).status_code in (200, 409)


def test_too_many_jobs_are_refused_at_once(monkeypatch):
    import threading
    from concurrent.futures import ThreadPoolExecutor

    model, entered, go = make(), threading.Event(), threading.Event()
    similar_items = model.similar_items

    def waiting(*args, **kwargs):
        entered.set()
        assert go.wait(20)
        return similar_items(*args, **kwargs)

    monkeypatch.setattr(model, "similar_items", waiting)
    with local(model, queue=1) as client, ThreadPoolExecutor(1) as threads:
        taken = threads.submit(client.get, "/similar", params={"item_index": 0})
        assert entered.wait(20)
        refused = client.get("/similar", params={"item_index": 0})
        assert refused.status_code == 503
        go.set()
        assert taken.result().status_code == 200
        assert client.get("/similar", params={"item_index": 0}).status_code == 200


def test_weights_that_do_not_differ_between_users_are_not_personal(model):
    with local(model) as client:
        answer = client.post("/recommend", json={"history": ["item-1"]}).json()
    assert answer["gate"]
    assert not answer["gate_is_personal"]
    assert torch.tensor(list(answer["gate"].values())).sum() == pytest.approx(1)
