"""The service over HTTP: in this process, and by a real server where sockets or signals matter."""

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from graphdiff import LightGCN, MultVAE
from graphdiff.cli.main import main
from graphdiff.errors import ConfigError
from graphdiff.serving.access import Access
from tests.conftest import make_model, random_data
from tests.serving.client import (
    BEARER,
    TOKEN,
    create_app,
    httpx,
    local,
    make,
    serving,
    until,
    uvicorn,
    wait_in,
)

from graphdiff.serving import service  # isort: skip

ROWS = [[0, 1], [2], [3, 4, 5], [6, 1]]


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def client(model):
    with local(model, history=8, k=30, body=20_000) as client:
        yield client


def assert_same(answer, model, history, k, **options):
    index, score = model.recommend(history_index=[history], k=k, **options)
    assert [one["item_index"] for one in answer["items"]] == index[0].tolist()
    assert [one["item"] for one in answer["items"]] == [
        str(model.catalogue.item_id(n)) for n in index[0].tolist()
    ]
    assert [one["score"] for one in answer["items"]] == pytest.approx(score[0].tolist(), rel=1e-4)


def test_requests_of_one_batch_are_answered_as_if_alone(client, model, monkeypatch):
    sizes, recommend = [], model.recommend

    def counting(*args, **kwargs):
        sizes.append(len(kwargs["history_index"]))
        return recommend(*args, **kwargs)

    monkeypatch.setattr(model, "recommend", counting)
    asked = [(row, 3 + n % 5) for n, row in enumerate(ROWS * 8)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(
                lambda one: client.post(
                    "/recommend", json={"history_index": one[0], "k": one[1]}
                ).json(),
                asked,
            )
        )
    monkeypatch.undo()
    assert sum(sizes) == len(asked) > len(sizes)
    for (row, k), answer in zip(asked, answers, strict=True):
        assert_same(answer, model, row, k)
        share = model.modality_preference(history_index=[row])
        assert answer["gate"] == pytest.approx({n: s.item() for n, s in share.items()}, abs=1e-5)


def test_raw_ids_exclusion_and_candidates(client, model):
    ask = {"history": ["item-0", "item-1"], "exclude": ["item-9"], "k": 25}
    pair = (torch.tensor([0]), torch.tensor([9]))
    assert_same(client.post("/recommend", json=ask).json(), model, [0, 1], 25, exclude_index=pair)
    ask = {"history_index": [0, 1], "exclude_index": [9], "k": 25}
    assert_same(client.post("/recommend", json=ask).json(), model, [0, 1], 25, exclude_index=pair)
    for few in (
        {"history": ["item-0"], "candidates": ["item-7", "item-8", "item-0"], "k": 25},
        {"history": ["item-0"], "candidate_index": [7, 8, 0], "k": 25},
    ):
        found = client.post("/recommend", json=few).json()["items"]
        assert {one["item"] for one in found} == {"item-7", "item-8"}


def test_lists_reach_the_tail_where_that_is_asked_for(client, model):
    row, chosen = [0, 1], [{}, {"popularity_discount": 3.0}, {"explore": 0.5}] * 4
    with ThreadPoolExecutor(12) as threads:
        answers = list(
            threads.map(
                lambda options: client.post(
                    "/recommend", json={"history_index": row, "k": 20, **options}
                ).json(),
                chosen,
            )
        )
    for options, answer in zip(chosen, answers, strict=True):
        assert_same(answer, model, row, 20, **options)
    assert len({str(answer["items"]) for answer in answers}) > 1


@pytest.mark.parametrize(
    "ids",
    [
        list(range(1, 41)),
        [str(n) for n in range(40, 0, -1)],
        [2**53 + n for n in range(40)],
        [2**63 - n for n in range(40)],
        None,
    ],
    ids=["from 1", "reversed text", "above 2^53", "2^63", "none"],
)
def test_kind_f_ids_of_an_answer_mean_the_same_when_posted_back(ids):
    model = make(ids=ids)
    with local(model) as client:
        known = [str(one) for one in ids or range(40)]
        first = client.post("/recommend", json={"history": known[:2], "k": 3}).json()
        assert_same(first, model, [0, 1], 3)
        found = [one["item"] for one in first["items"]]
        assert all(type(one) is str for one in found)
        indices = [one["item_index"] for one in first["items"]]
        assert [known[n] for n in indices] == found
        back = client.post("/recommend", json={"history": found, "k": 3}).json()
        assert_same(back, model, indices, 3)
        assert back == client.post("/recommend", json={"history_index": indices, "k": 3}).json()
        for field in ("history", "exclude", "candidates"):
            ask = {"history": known[:1]} | {field: [3]}
            assert client.post("/recommend", json=ask).status_code == 422
            ask = {"history": known[:1]} | {f"{field.rstrip('s')}_index": [known[3]]}
            assert client.post("/recommend", json=ask).status_code == 422
        listed = client.get("/items", params={"limit": 40}).json()["items"]
        assert {one["item"]: one["item_index"] for one in listed} == {
            one: n for n, one in enumerate(known)
        }


def test_unknown_items_are_left_out_where_that_is_asked_for(client):
    known = {"history": ["item-0", "item-3"], "candidates": ["item-1", "item-2", "item-4"]}
    expected = client.post("/recommend", json=known).json()
    assert expected["unknown"] == []
    asked = {
        "history": ["item-0", "new-1", "item-3"],
        "candidates": ["item-1", "new-2", "item-2", "item-4"],
        "exclude": ["new-1"],
        "ignore_unknown": True,
    }
    found = client.post("/recommend", json=asked).json()
    assert found["unknown"] == ["new-1", "new-2"]
    assert [one["item"] for one in found["items"]] == [one["item"] for one in expected["items"]]
    assert found["items"][0]["score"] == pytest.approx(expected["items"][0]["score"], rel=1e-5)
    for name in ("history", "candidates"):
        answer = client.post("/recommend", json=known | {name: ["new-1"], "ignore_unknown": True})
        assert answer.status_code == 422
        assert f"{name}: none of 1 ids is among the 40 items" in answer.text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"history": ["unknown"]}, "no item 'unknown' among the 40"),
        ({"history_index": [40]}, "item index 40 is out of range"),
        ({"history_index": [-1]}, "item index -1 is out of range"),
        ({"history_index": [10**30]}, "out of range"),
        ({"history": ["item-0"] * 9}, "history: 9 is over the limit of 8"),
        ({"history_index": [0] * 9}, "history: 9 is over the limit of 8"),
        ({"history_index": [0], "exclude_index": [0] * 9}, "exclude: 9 is over the limit of 8"),
        ({"history_index": [0], "k": 31}, "k: 31 is over the limit of 30"),
        ({"history_index": [0], "k": 0}, "greater than or equal to 1"),
        ({"history": []}, "at least 1 item"),
        ({"history_index": [0], "explore": 1.5}, "less than or equal to 1"),
        ({"history_index": [0], "popularity_discount": -1}, "greater than or equal to 0"),
        ({"history_index": [0], "candidates": []}, "at least 1 item"),
        ({"history_index": [True]}, "valid"),
        ({"history_index": [0], "top": 3}, "Extra inputs"),
        ({"items": ["item-0"]}, "Extra inputs"),
        ({"history": [0]}, "valid string"),
        ({"history_index": ["item-0"]}, "valid integer"),
        ({}, "give either history or history_index"),
        ({"history": ["item-0"], "history_index": [0]}, "give either history or history_index"),
        (
            {"history": ["item-0"], "candidates": ["item-0"], "candidate_index": [0]},
            "give candidates or candidate_index, not both",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_reason(client, body, reason):
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 422
    assert reason in answer.text


def test_a_large_body_is_refused_however_it_is_sent(client):
    async def pieces():
        for _ in range(5):
            yield b"[" * 5000

    kind = {"Content-Type": "application/json"}
    answers = [
        client.post("/recommend", content=b"[" * 20_001),
        client.post("/recommend", content=pieces(), headers=kind),
        client.post("/recommend", content=b"{}", headers=kind | {"Content-Length": "9" * 5000}),
    ]
    assert [answer.status_code for answer in answers] == [413] * 3
    assert client.get("/health").status_code == 200


def test_text_bodies_are_refused(client):
    # Browsers send text/plain to other sites without a preflight request.
    answer = client.post("/reload", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


def test_items_are_found_by_the_beginning_of_their_ids(client):
    found = client.get("/items", params={"query": "item-3", "limit": 4}).json()["items"]
    assert [one["item"] for one in found] == ["item-3", "item-30", "item-31", "item-32"]
    assert client.get("/items", params={"query": "x"}).json()["items"] == []


def test_health_and_documentation(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert (health["model"], health["users"], health["items"]) == ("LD4MRec", 30, 40)
    assert (health["queue"], health["modalities"]) == (0, ["image", "text"])
    assert "/recommend" in client.get("/openapi.json").json()["paths"]


def test_new_items_are_recommended():
    model = make()
    with local(model) as client:
        like_3 = model.graph.features("image")[0][3].tolist()
        new = {"features": {"image": [like_3, None]}, "item_id": ["new-1", "new-2"]}
        added = client.post("/items", json=new)
        assert (added.status_code, added.json()) == (201, {"items": ["new-1", "new-2"]})
        found = client.get("/items", params={"query": "new"}).json()["items"]
        assert [(one["item"], one["new"]) for one in found] == [("new-1", True), ("new-2", True)]
        assert client.get("/health").json()["items"] == 42
        asked = {"history": ["item-3"], "candidates": ["new-1"]}
        found = client.post("/recommend", json=asked).json()["items"]
        assert [(one["item"], one["item_index"]) for one in found] == [("new-1", 40)]
        assert client.post("/recommend", json={"history": ["new-1"]}).status_code == 200
        more = {"features": {"image": [like_3]}, "item_id": ["new-3"]}
        assert client.post("/items", json=more).json() == {"items": ["new-3"]}
        for wrong, reason in [
            (new, "known already"),
            ({"features": {"sound": [[1.0]]}, "item_id": ["x"]}, "knows image, text"),
            ({"features": {"image": [[1.0], [1.0, 2.0]]}, "item_id": ["x", "y"]}, "equally many"),
        ]:
            answer = client.post("/items", json=wrong)
            assert answer.status_code == 422
            assert reason in answer.text
        assert client.get("/health").json()["items"] == 43
    assert model.num_items == 40  # the service has added them to a copy


def test_new_items_are_shown_with_their_details():
    with local(make()) as client:
        new = {
            "features": {"image": [[0.1] * 6, [1, 0, 0, 0, 0, 1]]},
            "item_id": ["new-1", "new-2"],
            "details": {"title": ["Blue mug", None], "image": ["https://cdn.example/1.png", None]},
        }
        assert client.post("/items", json=new).status_code == 201
        (found,) = client.get("/items", params={"query": "mug"}).json()["items"]
        shown = {"item": "new-1", "item_index": 40, "title": "Blue mug", "category": None,
                 "image": "https://cdn.example/1.png", "new": True}  # fmt: skip
        assert found == shown
        asked = {"history": ["item-3"], "candidates": ["new-1", "new-2"]}
        best = client.post("/recommend", json=asked).json()["items"]
        assert {one["item"]: one["title"] for one in best} == {"new-1": "Blue mug", "new-2": None}
        asked = {"history": ["item-3", "new-1"], "items": ["new-1"]}
        (why,) = client.post("/explain", json=asked).json()["explanations"]
        assert why["item"] == shown
        assert shown in [one["item"] for one in why["history"]]
        similar = client.get("/similar", params={"item": "new-2", "k": 41}).json()["items"]
        assert "Blue mug" in [one["title"] for one in similar]
        for details in ({"title": ["a"]}, {"name": ["a", "b"]}, {"title": [1, 2]}, {"image": "ab"}):
            wrong = {**new, "item_id": ["x", "y"], "details": details}
            assert client.post("/items", json=wrong).status_code == 422
        assert client.get("/health").json()["items"] == 42


def test_new_items_of_a_model_without_raw_ids():
    with local(make(ids=None)) as client:
        new = {"features": {"image": [[0.1] * 6]}}
        assert client.post("/items", json=new).json() == {"items": ["40"]}
        found = client.post("/recommend", json={"history": ["1"], "candidates": ["40"]}).json()
        assert [one["item"] for one in found["items"]] == ["40"]


def test_a_model_that_cannot_take_items_says_so():
    with local(make_model(MultVAE, random_data())) as client:
        answer = client.post("/items", json={"features": {"image": [[1.0]]}})
        assert answer.status_code == 409
        assert client.post("/recommend", json={"history": ["0"]}).json()["gate"] is None


def test_a_full_queue_refuses_at_once_and_waiting_requests_are_answered(monkeypatch):
    model = make()
    with local(model, queue=2, batch=1) as client, ThreadPoolExecutor(3) as threads:
        entered, go = wait_in(model, monkeypatch)

        def ask():
            return client.post("/recommend", json={"history_index": [0]})

        taken = [threads.submit(ask)]
        assert entered.wait(20)
        taken += [threads.submit(ask), threads.submit(ask)]
        until(lambda: client.get("/health").json()["queue"] == 2)
        refused = ask()
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert not any(one.done() for one in taken)
        go.set()
        assert [one.result().status_code for one in taken] == [200] * 3
        assert ask().status_code == 200


def test_a_reload_drops_nothing_and_a_failed_one_changes_nothing(tmp_path, monkeypatch, caplog):
    old, new = make(), make(seed=1, num_items=50)
    new.save_pretrained(tmp_path / "new")
    (tmp_path / "none").mkdir()
    ask = {"history_index": [0, 1], "k": 4}
    with local(old, Access(TOKEN, runs=tmp_path)) as client, ThreadPoolExecutor(1) as threads:
        failed = client.post("/reload", json={"run": "none"})
        assert failed.status_code == 422
        assert "not reloaded" in failed.text
        assert "not a RUN folder" in caplog.text
        assert client.post("/reload", json={}).status_code == 409  # came from no folder
        entered, go = wait_in(old, monkeypatch)
        asked = threads.submit(client.post, "/recommend", json=ask)
        assert entered.wait(20)
        health = client.post("/reload", json={"run": "new"}).json()
        assert (health["items"], health["loads"]) == (50, 2)
        assert not asked.done()
        go.set()
        assert_same(asked.result().json(), old, [0, 1], 4)
        assert_same(client.post("/recommend", json=ask).json(), new, [0, 1], 4)


def test_shutting_down_answers_waiting_requests(monkeypatch):
    model = make()
    with serving(model) as client, ThreadPoolExecutor(1) as threads:
        entered, go = wait_in(model, monkeypatch)
        asked = threads.submit(client.post, "/recommend", json={"history_index": [0]})
        assert entered.wait(20)
        client.stop()
        go.set()
        assert asked.result().status_code == 200


def test_a_model_that_does_not_fold_in_is_refused():
    with pytest.raises(ConfigError, match=r"LightGCN knows only.*cannot be served"):
        create_app(make_model(LightGCN, random_data()))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_the_command_serves_reloads_on_sighup_and_ends_on_sigterm(tmp_path, monkeypatch):
    make().save_pretrained(tmp_path)
    command = [sys.executable, "-m", "graphdiff.cli.main", "serve", str(tmp_path), "--port", "0"]
    monkeypatch.setenv("GRAPHDIFF_TOKEN", TOKEN)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        base = process.stdout.readline().split()[-1]
        assert base.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=base, transport=httpx.HTTPTransport(retries=5)) as client:
            until(lambda: client.get("/health").json()["loads"] == 1)
            make(seed=1, num_items=50).save_pretrained(tmp_path)
            process.send_signal(signal.SIGHUP)
            until(lambda: client.get("/health").json()["items"] == 50)
            assert client.post("/reload", json={}).status_code == 401
            assert client.post("/reload", json={}, headers=BEARER).json()["loads"] == 3
            assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
    finally:
        process.terminate()
        assert process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        process.stdout.close()


def test_connections_do_not_delay_answers(tmp_path, monkeypatch):
    make().save_pretrained(tmp_path)
    found = []

    def accept(self, sockets):
        port = sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), sockets[0].accept()[0] as connection:
            found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(uvicorn.Server, "run", accept)
    service.serve(tmp_path, port=0)
    assert found[0] != 0


def test_the_command_refuses_a_model_that_does_not_fold_in(tmp_path, monkeypatch, capsys):
    make_model(LightGCN, random_data()).save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["graphdiff", "serve", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "cannot be served" in capsys.readouterr().err
