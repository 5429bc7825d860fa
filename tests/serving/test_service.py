"""The service over HTTP, by a real server on loopback."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from graphdiff import LD4MRec, LightGCN, MultVAE
from graphdiff.cli.main import main
from graphdiff.errors import ConfigError
from tests.conftest import make_model, random_data

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from graphdiff.serving.service import Limits, create_app, serve  # noqa: E402

ROWS = [[0, 1], [2], [3, 4, 5], [6, 1]]
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def make(seed=0, num_items=40):
    data = random_data(30, num_items, {"image": 6, "text": 5}, seed, density=0.15)
    model = make_model(LD4MRec, data, seed).eval()
    model.catalogue.item_ids = [f"item-{number}" for number in range(num_items)]
    return model


@contextmanager
def serving(model, **limits):
    """A client of a service in a thread; leaving drains it."""
    app = create_app(model, Limits(**limits))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            client.stop = lambda: setattr(server, "should_exit", True)
            yield client
    finally:
        server.should_exit = True
        thread.join()


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def wait_in(model, monkeypatch):
    """Makes ``recommend`` wait; returns what tells that it was entered, and what lets it go."""
    entered, go, recommend = threading.Event(), threading.Event(), model.recommend

    def waiting(*args, **kwargs):
        entered.set()
        assert go.wait(20)
        return recommend(*args, **kwargs)

    monkeypatch.setattr(model, "recommend", waiting)
    return entered, go


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def client(model):
    with serving(model, items=8, k=30, body=20_000) as client:
        yield client


def assert_same(answer, model, items, k, **options):
    index, score = model.recommend(history_index=[items], k=k, **options)
    assert [one["item"] for one in answer["items"]] == [
        model.catalogue.item_id(n) for n in index[0].tolist()
    ]
    assert [one["score"] for one in answer["items"]] == pytest.approx(score[0].tolist(), rel=1e-4)


def test_requests_that_come_together_are_answered_as_if_each_came_alone(client, model, monkeypatch):
    sizes, recommend = [], model.recommend

    def counting(*args, **kwargs):
        sizes.append(len(kwargs["history_index"]))
        return recommend(*args, **kwargs)

    monkeypatch.setattr(model, "recommend", counting)
    asked = [(row, 3 + n % 5) for n, row in enumerate(ROWS * 8)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(
                lambda one: client.post("/recommend", json={"items": one[0], "k": one[1]}).json(),
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
    answer = client.post(
        "/recommend", json={"items": ["item-0", 1], "exclude": ["item-9"], "k": 25}
    )
    pair = (torch.tensor([0]), torch.tensor([9]))
    assert_same(answer.json(), model, [0, 1], 25, exclude_index=pair)
    few = {"items": [0], "candidates": ["item-7", 8, 0], "k": 25}
    found = client.post("/recommend", json=few).json()["items"]
    assert {one["item"] for one in found} == {"item-7", "item-8"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"items": ["nobody"]}, "no item 'nobody' among the 40"),
        ({"items": [40]}, "item index 40 is out of range"),
        ({"items": [-1]}, "item index -1 is out of range"),
        ({"items": [10**30]}, "out of range"),
        ({"items": [0] * 9}, "items: 9 is over the limit of 8"),
        ({"items": [0], "exclude": [0] * 9}, "exclude: 9 is over the limit of 8"),
        ({"items": [0], "k": 31}, "k: 31 is over the limit of 30"),
        ({"items": [0], "k": 0}, "greater than or equal to 1"),
        ({"items": []}, "at least 1 item"),
        ({"items": [0], "candidates": []}, "at least 1 item"),
        ({"items": [True]}, "valid"),
        ({"items": [0], "top": 3}, "Extra inputs"),
    ],
)
def test_a_request_that_does_not_fit_is_told_why(client, body, told):
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 422
    assert told in answer.text


def test_a_large_body_is_refused_however_it_is_sent(client):
    whole = client.post("/recommend", content=b"[" * 20_001)
    pieces = client.post(
        "/recommend",
        content=(b"[" * 5000 for _ in range(5)),
        headers={"Content-Type": "application/json"},
    )
    assert (whole.status_code, pieces.status_code) == (413, 413)
    assert client.get("/health").status_code == 200


def test_a_page_of_another_site_cannot_post(client):
    # Browsers send text/plain across sites without asking.
    answer = client.post("/reload", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


def test_items_are_found_by_the_beginning_of_their_ids(client):
    found = client.get("/items", params={"query": "item-3", "limit": 4}).json()["items"]
    assert found == ["item-3", "item-30", "item-31", "item-32"]
    assert client.get("/items", params={"query": "x"}).json()["items"] == []
    assert client.get("/items", params={"limit": 2}).json()["items"] == ["item-0", "item-1"]


def test_health_and_documentation(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert (health["model"], health["users"], health["items"]) == ("LD4MRec", 30, 40)
    assert (health["queue"], health["modalities"]) == (0, ["image", "text"])
    assert "/recommend" in client.get("/openapi.json").json()["paths"]


def test_new_items_are_recommended():
    model = make()
    with serving(model) as client:
        like_3 = model.graph.features("image")[0][3].tolist()
        new = {"features": {"image": [like_3, None]}, "ids": ["new-1", "new-2"]}
        added = client.post("/items", json=new)
        assert (added.status_code, added.json()) == (201, {"items": ["new-1", "new-2"]})
        assert client.get("/items", params={"query": "new"}).json()["items"] == ["new-1", "new-2"]
        wanted = {"items": ["item-3"], "candidates": ["new-1"]}
        found = client.post("/recommend", json=wanted).json()["items"]
        assert [one["item"] for one in found] == ["new-1"]
        for wrong, told in [
            (new, "known already"),
            ({"features": {"sound": [[1.0]]}, "ids": ["x"]}, "knows image, text"),
            ({"features": {"image": [[1.0], [1.0, 2.0]]}, "ids": ["x", "y"]}, "equally many"),
        ]:
            answer = client.post("/items", json=wrong)
            assert answer.status_code == 422
            assert told in answer.text


def test_a_model_that_cannot_take_items_says_so():
    with serving(make_model(MultVAE, random_data())) as client:
        answer = client.post("/items", json={"features": {"image": [[1.0]]}})
        assert answer.status_code == 409
        assert client.post("/recommend", json={"items": [0]}).json()["gate"] is None


def test_a_full_queue_refuses_at_once_and_what_waits_is_answered(monkeypatch):
    model = make()
    with serving(model, queue=2, batch=1) as client, ThreadPoolExecutor(3) as threads:
        entered, go = wait_in(model, monkeypatch)

        def ask():
            return client.post("/recommend", json={"items": [0]})

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


def test_a_reload_drops_nothing_and_a_failed_one_changes_nothing(tmp_path, monkeypatch):
    old, new = make(), make(seed=1, num_items=50)
    new.save_pretrained(tmp_path / "new")
    with serving(old) as client, ThreadPoolExecutor(1) as threads:
        failed = client.post("/reload", json={"run": str(tmp_path / "none")})
        assert failed.status_code == 422
        assert "not a RUN folder" in failed.text
        assert client.post("/reload", json={}).status_code == 409  # came from no folder
        entered, go = wait_in(old, monkeypatch)
        asked = threads.submit(client.post, "/recommend", json={"items": [0, 1], "k": 4})
        assert entered.wait(20)
        health = client.post("/reload", json={"run": str(tmp_path / "new")}).json()
        assert (health["items"], health["loads"]) == (50, 2)
        assert not asked.done()
        go.set()
        assert_same(asked.result().json(), old, [0, 1], 4)
        answer = client.post("/recommend", json={"items": [0, 1], "k": 4})
        assert_same(answer.json(), new, [0, 1], 4)


def test_shutting_down_answers_what_is_in(monkeypatch):
    model = make()
    with serving(model) as client, ThreadPoolExecutor(1) as threads:
        entered, go = wait_in(model, monkeypatch)
        asked = threads.submit(client.post, "/recommend", json={"items": [0]})
        assert entered.wait(20)
        client.stop()
        go.set()
        assert asked.result().status_code == 200


def test_only_this_machine_may_change_the_service(model):
    app = create_app(model)
    transport = httpx.ASGITransport(app, client=("203.0.113.7", 1))

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://far") as far:
            return [await far.post(path, json={"features": {}}) for path in ("/reload", "/items")]

    assert [answer.status_code for answer in asyncio.run(ask())] == [403, 403]


def test_a_model_of_its_training_users_alone_is_refused():
    with pytest.raises(ConfigError, match=r"LightGCN knows only.*cannot be served"):
        create_app(make_model(LightGCN, random_data()))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_the_command_serves_reloads_on_sighup_and_ends_on_sigterm(tmp_path):
    make().save_pretrained(tmp_path)
    command = [sys.executable, "-m", "graphdiff.cli.main", "serve", str(tmp_path), "--port", "0"]
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
    finally:
        process.terminate()
        assert process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        process.stdout.close()


def test_answers_are_not_held_back(tmp_path, monkeypatch):
    make().save_pretrained(tmp_path)
    found = []

    def accept(self, sockets):
        port = sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), sockets[0].accept()[0] as connection:
            found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(uvicorn.Server, "run", accept)
    serve(tmp_path, port=0)
    assert found[0] != 0


def test_the_command_refuses_a_model_that_does_not_fold_in(tmp_path, monkeypatch, capsys):
    make_model(LightGCN, random_data()).save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["graphdiff", "serve", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "cannot be served" in capsys.readouterr().err


def test_the_page_asks_no_other_site(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "://" not in page.text


@pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)
def test_the_page_shows_recommendations_and_the_gate(client, model, tmp_path):
    url = f"{client.base_url}?items=item-1,item-2"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    best = done.stdout.partition('id="best"')[2].partition("</ol>")[0]
    index, _ = model.recommend(history_index=[[1, 2]], k=10)
    positions = [best.find(f">{model.catalogue.item_id(n)}</b>") for n in index[0].tolist()]
    assert positions == sorted(positions)
    assert positions[0] > 0, done.stdout + done.stderr
    gate = done.stdout.partition('id="gate"')[2].partition("</ul>")[0]
    assert ">image</b>" in gate
    assert ">text</b>" in gate
