import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from graphdiff.cli.main import main
from graphdiff.errors import ConfigError
from graphdiff.experiments.ranks import dataset_names, rank_table, ranking
from tests.command import run


def comparison(dataset, **recall):
    """The content of a comparison with these values; those of earlier versions have no
    fingerprint."""
    models = {
        name: {"name": name.upper(), "mean": {"test": {"recall@20": value}}}
        for name, value in recall.items()
    }
    return {"dataset": dataset, "models": models}


#: AUC of C4.5 with four settings on 14 datasets: Demšar, JMLR 2006, Table 6.
#: 0.9751 is printed as 0.975 there, and ranked above the 0.975 of the last setting.
DEMSAR = np.array(
    [
        [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661,
         0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
        [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668,
         0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
        [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609,
         0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
        [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685,
         0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def demsar():
    return [
        comparison(f"data {n}", **dict(zip("abcd", column, strict=True)))
        for n, column in enumerate(DEMSAR.T)
    ]


def test_the_published_example_comes_out(demsar):
    found = ranking(demsar)
    assert found.models == ["d", "b", "c", "a"]
    np.testing.assert_allclose(found.mean, [1.964, 2.000, 2.893, 3.143], atol=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.p == pytest.approx(stats.friedmanchisquare(*DEMSAR).pvalue)
    # The paper: no two of the four differ significantly at 0.05.
    assert found.cliques() == [(0, 3)]


def test_groups_are_maximal_and_may_overlap(demsar):
    found = ranking(demsar)
    # With a smaller critical difference, the ends differ and each is near one of the middle.
    narrow = type(found)(**{**vars(found), "critical_difference": 0.9})
    assert narrow.cliques() == [(0, 1), (1, 2), (2, 3)]
    alone = type(found)(**{**vars(found), "critical_difference": 0.01})
    assert alone.cliques() == []


def test_models_of_some_datasets_are_listed_without_a_rank():
    results = [comparison("one", a=0.3, b=0.2, c=0.4), comparison("two", a=0.5, b=0.1)]
    found = ranking(results)
    assert found.models == ["a", "b"]
    assert found.p is None
    rows = [[one.text for one in row] for row in rank_table(results, found).rows]
    assert rows == [
        ["A", "0.3000", "0.5000", "1.00"],
        ["B", "0.2000", "0.1000", "2.00"],
        ["C", "0.4000", "–", "–"],
    ]
    assert [row[1].best for row in rank_table(results, found).rows] == [False, False, True]


@pytest.mark.parametrize(
    ("results", "part"),
    [
        ([comparison("one", a=1, b=2)], "two or more"),
        ([comparison("one", a=1, b=2)] * 2, "different datasets"),
        ([comparison("one", a=1, b=2), comparison("two", c=1)], "0 models"),
    ],
)
def test_what_cannot_be_ranked_is_refused(results, part):
    with pytest.raises(ConfigError, match=part):
        ranking(results)
    with pytest.raises(ConfigError, match="no ndcg@20"):
        ranking([comparison("one", a=1, b=2), comparison("two", a=1, b=2)], "ndcg@20")


def of_data(fingerprint, **more):
    return comparison("csv", a=0.3, b=0.2) | {"fingerprint": fingerprint, **more}


def test_datasets_of_a_name_are_distinguished_by_their_fingerprints():
    results = [of_data("a1"), of_data("b2")]
    assert ranking(results).datasets == ["csv a1", "csv b2"]
    named = ranking(results, names=["shop", "books"])
    assert named.datasets == ["shop", "books"]
    assert rank_table(results, named).head == ["model", "shop", "books", "mean rank"]
    with pytest.raises(ConfigError, match="x and y are the same data, fingerprint a1; give those"):
        ranking([of_data("a1"), of_data("a1", dataset="parquet")], names=["x", "y"])
    with pytest.raises(ConfigError, match="are the same data, fingerprint b2; give those"):
        ranking([of_data("a1", fingerprint_without_times="b2"), of_data("b2")])
    with pytest.raises(ConfigError, match="are the same data, named csv; give those"):
        ranking([of_data("a1"), comparison("csv", a=1, b=2)])


def test_names_of_datasets_are_those_of_the_files_where_they_are_equal():
    results = [{"dataset": name} for name in ("csv", "tiktok", "csv")]
    paths = [Path(one) for one in ("x/shop.json", "y/t.json", "z/books.json")]
    assert dataset_names(results, paths) == ["shop", "tiktok", "books"]
    assert dataset_names(results[::2], [Path("x/c.json"), Path("y/c.json")]) == ["x/c", "y/c"]


def test_the_commands_accept_two_logs_that_are_both_csv(content, tmp_path, monkeypatch, capsys):
    paths = [tmp_path / "shop.json", tmp_path / "books.json"]
    for path in paths:
        changed = content | {"dataset": "csv", "fingerprint": f"of {path.stem}"}
        path.write_text(json.dumps(changed))
    page, report = tmp_path / "r.md", tmp_path / "r.html"
    arguments = ["ranks", *paths, "--markdown", page]
    monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, arguments)])
    main()
    start = "# recall@20 over 2 datasets\n\n| model | shop | books | mean rank |"
    assert page.read_text().startswith(start)
    arguments = ["--render", paths[0], "--also", paths[1], "--report", report]
    monkeypatch.setattr(sys, "argv", ["graphdiff", "compare", *map(str, arguments)])
    main()
    drawn = re.search(
        r"<h2>Ranks over datasets</h2>\n(<figure>.*?</figure>)", report.read_text(), re.DOTALL
    )[1]
    assert all(f">{path.stem}<" in drawn for path in paths)
    capsys.readouterr()
    arguments[3] = paths[0]
    monkeypatch.setattr(sys, "argv", ["graphdiff", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit):
        main()
    assert "are the same data, fingerprint of shop" in capsys.readouterr().err


def test_the_command_writes_table_and_diagram(pages, content, tmp_path, monkeypatch, capsys):
    content |= {"dataset": "other", "fingerprint": "other"}
    other, page, plot = tmp_path / "b.json", tmp_path / "p" / "r.md", tmp_path / "p" / "r.svg"
    other.write_text(json.dumps(content))
    arguments = ["ranks", pages / "a.json", other, "--markdown", page, "--plot", plot]
    monkeypatch.setattr(sys, "argv", ["graphdiff", *map(str, arguments)])
    main()
    printed = capsys.readouterr().out
    assert "mean rank" in printed
    assert "Nemenyi" in printed
    assert "| model | synthetic | other | mean rank |" in page.read_text()
    assert "![Critical-difference diagram](r.svg)" in page.read_text()
    drawn = plot.read_text()
    assert all(name in drawn for name in ("LD4MRec", "LightGCN", "critical difference"))


def test_a_file_of_another_kind_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.json"
    path.write_text('{"dataset": "one", "cells": []}')
    monkeypatch.setattr(sys, "argv", ["graphdiff", "ranks", str(path), str(path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "holds no models" in capsys.readouterr().err


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
MULTIMODAL = ["tiktok", "lfm2k", "citeulike-a"]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("ranks", [*MULTIMODAL, "ml-1m-clean", "ml-1m-noisy"]),
        ("ranks-multimodal", MULTIMODAL),
    ],
)
def test_the_committed_pages_are_of_the_committed_comparisons(page, names, tmp_path):
    files = [RESULTS / f"{name}.json" for name in names]
    written = tmp_path / f"{page}.md"
    run("ranks", *files, "--markdown", written, "--plot", tmp_path / f"{page}.svg")
    assert written.read_text() == (RESULTS / f"{page}.md").read_text()
