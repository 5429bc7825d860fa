"""Measurements of a service, and loading of new models by itself."""

import numpy as np
import pytest
import torch

from graphdiff.models.storage import copy_model
from graphdiff.serving.access import Access
from tests.serving.client import TOKEN, Client, create_app, local, make, until

parser = pytest.importorskip("prometheus_client.parser")


def measured(client):
    """All samples, by name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_latency_and_batches_are_counted():
    with local(make()) as client:
        for _ in range(3):
            client.post("/recommend", json={"history_index": [0, 1], "k": 5})
        client.post("/recommend", json={"history_index": [99]})
        client.get("/no/such/path")
        found = measured(client)
    count = "graphdiff_request_seconds_count"
    assert found[count, ("path", "/recommend"), ("status", "200")] == 3
    assert found[count, ("path", "/recommend"), ("status", "422")] == 1
    assert found[count, ("path", "other"), ("status", "404")] == 1
    assert found["graphdiff_request_seconds_sum", ("path", "/recommend"), ("status", "200")] > 0
    assert found["graphdiff_batch_requests_sum",] == 3
    assert found["graphdiff_queue_requests",] == 0


def test_unknown_ids_and_new_items_are_counted():
    model = make()
    untouched = set((model.graph.item_degree() == 0).nonzero().flatten().tolist())
    with local(model) as client:
        asked = {"history": ["item-0", "item-1"], "k": 5}
        first = client.post("/recommend", json=asked).json()["items"]
        client.post("/recommend", json={"history": ["item-0", "never seen"], "k": 5})
        features = {"image": model.graph.features("image")[0][:1].tolist()}
        client.post("/items", json={"features": features, "item_id": ["fresh"]})
        asked = {"history": ["item-2"], "candidates": ["fresh", "item-3"], "k": 5}
        answer = client.post("/recommend", json=asked).json()
        assert {one["item"] for one in answer["items"]} == {"fresh", "item-3"}
        found = measured(client)
    assert found["graphdiff_history_ids_total", ("known", "yes")] == 4
    assert found["graphdiff_history_ids_total", ("known", "no")] == 1
    new = 1 + sum(one["item_index"] in untouched for one in [*first, {"item_index": 3}])
    assert found["graphdiff_recommended_items_total", ("new", "yes")] == new
    assert found["graphdiff_recommended_items_total", ("new", "no")] == 7 - new


def test_scores_are_compared_with_training():
    model = make()
    users = model.graph.user_degree().nonzero().flatten()
    with local(model) as client:
        assert measured(client)["graphdiff_score_shift",] == 0
        ask = {"history_index": [0], "popularity_discount": 5.0}
        assert len(client.post("/recommend", json=ask).json()["items"]) == 20
        assert measured(client)["graphdiff_score_shift",] == 0
        for user in users.tolist():
            row = model.graph.rows(torch.tensor([user])).item.tolist()
            client.post("/recommend", json={"history_index": row, "k": 20})
        found = measured(client)
        deciles = [found["graphdiff_scores_total", ("decile", str(n))] for n in range(1, 11)]
        # The same users as in training, so about as many scores in each.
        assert np.array(deciles) == pytest.approx(np.mean(deciles), rel=0.2)
        assert found["graphdiff_score_shift",] < 0.05
        for _ in range(300):  # Only the best item of each list: scores are higher.
            client.post("/recommend", json={"history_index": row, "k": 1})
        assert measured(client)["graphdiff_score_shift",] > 0.25
        client.app.state.service.metrics.follow(client.app.state.service.served)
        assert measured(client)["graphdiff_score_shift",] == 0


def test_callers_cannot_add_labels():
    with local(make()) as client:
        for n in range(20):
            client.get(f"/{n}")
        found = measured(client)
    paths = {dict(key[1:]).get("path") for key in found if key[0].startswith("graphdiff_request")}
    assert paths == {"other"}


def test_a_service_that_watches_its_run_loads_a_new_model(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    make(seed=0).save_pretrained(run)
    later = make(seed=1)
    later.save_pretrained(other)
    with Client(create_app(run, access=Access(TOKEN), watch=0.02)) as client:
        asked = {"history_index": [0, 1], "k": 5}
        before = client.post("/recommend", json=asked).json()
        copy_model(other, run, {})
        until(lambda: client.get("/health").json()["loads"] == 2)
        after = client.post("/recommend", json=asked).json()
        expected = later.recommend(history_index=[[0, 1]], k=5)[0][0].tolist()
        assert [one["item_index"] for one in after["items"]] == expected
        assert before != after
        (run / "config.yaml").write_text("model: {}\n")  # Not a model: the old one stays.
        until(lambda: client.get("/health").json()["loads"] == 2)
        assert client.post("/recommend", json=asked).json() == after
