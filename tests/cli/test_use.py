"""``graphdiff evaluate``, ``recommend`` and ``export``."""

import json

import pytest
import torch
import yaml

from tests.command import run


def test_evaluate_gives_the_figures_of_training(trained):
    found = json.loads(run("evaluate", trained, "--json").stdout)
    expected = json.loads((trained / "results.json").read_text())["test"]
    assert found["split"] == "test"
    assert found["recall@20"] == pytest.approx(expected["recall@20"], abs=1e-9)


def test_recommend_prints_raw_items_and_scores(trained):
    found = json.loads(run("recommend", trained, "--user", "12", "-k", "5", "--json").stdout)
    assert found["user"] == 12
    assert len(found["items"]) == 5
    scores = [row["score"] for row in found["items"]]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(row["item"], int) for row in found["items"])
    assert "rank" in run("recommend", trained, "--user", "12", "-k", "5").stdout


def test_popular_items_can_be_discounted(trained):
    options = ("--popularity-discount", "1000", "--json")
    usual, rare = (
        json.loads(run("evaluate", trained, *more, "--split", "val").stdout)
        for more in (["--json"], options)
    )
    assert rare["average_popularity@20"] < usual["average_popularity@20"]
    found = json.loads(run("recommend", trained, "--user", "12", *options).stdout)
    plain = json.loads(run("recommend", trained, "--user", "12", "--json").stdout)
    assert found["items"] != plain["items"]
    assert "popularity-discount" in run("evaluate", trained, options[0], "-1", expect=2).stderr


def test_recommend_prints_titles_from_the_run(trained):
    from graphdiff.datasets import SyntheticMultimedia

    known = SyntheticMultimedia(seed=0)[0]["item"]
    (row,) = json.loads(run("recommend", trained, "--user", "12", "-k", "1", "--json").stdout)[
        "items"
    ]
    assert row["title"] in known.title
    assert row["category"] in known.category
    shown = run("recommend", trained, "--user", "12", "-k", "1").stdout
    assert row["title"] in shown
    assert row["category"] in shown


def test_recommend_with_reasons(trained):
    from graphdiff import LD4MRec

    options = ("recommend", trained, "--history", "3,8,12", "-k", "2", "--why")
    rows = json.loads(run(*options, "--json").stdout)["items"]
    model = LD4MRec.from_pretrained(trained)
    shown = run(*options).stdout
    assert "because of" in shown
    for row in rows:
        expected = model.explain(row["item"], history=[3, 8, 12]).because()
        assert [(one["item"], one["why"]) for one in row["because"]] == expected
        for one in row["because"]:
            assert f"{one['title']}: {', '.join(one['why'])}" in shown
        assert "image" not in row  # a picture of its own, not an address


def test_recommend_to_a_history(trained):
    def items(*history):
        options = [part for one in history for part in ("--history", one)]
        found = json.loads(run("recommend", trained, *options, "-k", "5", "--json").stdout)
        return found["history"], [row["item"] for row in found["items"]]

    history, found = items("3,8,12")
    assert history == ["3", "8", "12"]
    assert len(set(found)) == 5
    assert not {3, 8, 12} & set(found)
    assert items("3", "8", "12") == (history, found)
    assert items("12", "12")[1] == items("12")[1] != found


def test_an_id_with_a_comma_is_given_by_repeating(tmp_path):
    model = named_model()
    model.save_pretrained(tmp_path)
    arguments = ["recommend", tmp_path, "-k", "3", "--json"]
    found = json.loads(run(*arguments, "--history", "a, b", "--history", "plain").stdout)
    expected = model.recommend(history=[["a, b", "plain"]], k=3)[0][0].tolist()
    assert [row["item"] for row in found["items"]] == [model.catalogue.item_id(i) for i in expected]
    assert "no item 'a'" in run(*arguments, "--history", "a, b", expect=2).stderr
    assert "has an empty id" in run(*arguments, "--history", "a,,b", expect=2).stderr


def named_model():
    from graphdiff import EASE
    from tests.conftest import random_data

    data = random_data(num_users=12, num_items=9)
    data["item"].raw_id = ["a, b", "plain", *(f"item {n}" for n in range(7))]
    model = EASE.from_data(data)
    model.solve()
    return model


def test_recommend_needs_a_user_or_a_history(trained):
    for arguments in ([], ["--user", "1", "--history", "3"]):
        error = run("recommend", trained, *arguments, expect=2).stderr
        assert "give either --user" in error


def test_export_writes_a_program(trained, tmp_path):
    program = tmp_path / "model.pt2"
    arguments = ["--format", "torch", "--tables", "bf16", "-k", "5", "--out", program]
    assert "written to" in run("export", trained, *arguments).stdout
    item, _ = torch.export.load(program).module()(torch.tensor([3, 4]), torch.tensor([0]))
    assert item.shape == (1, 5)


def test_requests_that_a_run_cannot_answer(trained):
    assert "no user '99999'" in run("recommend", trained, "--user", 99999, expect=2).stderr
    assert "catalogue" in run("recommend", trained, "--user", 1, "-k", 10**6, expect=2).stderr


def test_a_run_of_other_data_is_refused(trained):
    path = trained / "config.yaml"
    before = path.read_text()
    config = yaml.safe_load(before)
    config["dataset"]["fingerprint"] = "0" * 16
    path.write_text(yaml.safe_dump(config))
    try:
        assert "was trained on other data" in run("evaluate", trained, expect=2).stderr
    finally:
        path.write_text(before)
