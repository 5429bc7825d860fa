"""The description of a dataset states what was put into it."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from typer.testing import CliRunner

from graphdiff.cli.main import app
from graphdiff.describe import describe, describe_dataset, oddities, plot_degrees, write_page
from graphdiff.describe.page import tables
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, build_data


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    x[1] = x[0]  # The same,
    x[3] = x[2] * 2  # the same but for its length,
    x[4] = 0  # nothing,
    x[5] = np.nan  # and missing.
    return build_data(
        4,
        6,
        train=[[0, 0, 0, 1, 1], [0, 2, 5, 0, 4]],
        val=[[0, 2], [1, 3]],
        test=[[0, 1, 1], [3, 5, 1]],
        features={"image": x},
    )


def test_sizes_and_degrees(data):
    found = describe(data)
    assert (found["users"], found["items"]) == (4, 6)
    assert found["pairs"] == {"training": 5, "validation": 2, "test": 3}
    assert found["sparsity"] == pytest.approx(1 - 5 / 24)
    assert not found["times"]
    users = found["degrees"]["users"]  # 3, 2, 0, 0
    assert (users["min"], users["max"], users["mean"], users["none"]) == (0, 3, 1.25, 2)
    # The mean difference of all pairs over twice the mean.
    assert users["gini"] == pytest.approx((2 * (1 + 3 + 3 + 2 + 2 + 0) / 16) / (2 * 1.25))
    assert found["degrees"]["items"]["none"] == 2


@pytest.mark.parametrize(("time", "shown"), [(None, "no"), ([3, 1, 2, 5, 4], "yes")])
def test_times_are_stated(time, shown):
    found = describe(build_data(4, 6, [[0, 0, 0, 1, 1], [0, 2, 5, 0, 4]], train_time=time))
    assert ["times", shown] in tables(found)[0][2]


def test_held_out_pairs(data):
    found = describe(data)["held_out"]
    assert found["validation"] == {
        "users": 2,
        "users_without_training_pairs": 1,
        "pairs_on_items_without_training_pairs": 2,
    }
    assert found["test"]["pairs_on_items_without_training_pairs"] == 2


def test_modalities(data):
    found = describe(data)["modalities"]["image"]
    assert (found["channels"], found["missing"], found["zero_rows"]) == (40, 1, 1)
    assert found["coverage"] == pytest.approx(5 / 6)
    assert found["repeated_rows"] == 2
    assert found["nearly_repeated"] == pytest.approx(4 / 5)
    assert found["constant_channels"] == 0
    # User 0 is tested on item 1 knowing item 0, and so is user 1; 5 and 4 are no twins.
    assert found["pairs_with_a_twin_in_training"] == {"validation": 1, "test": 1}
    data["item"].x_image[:, 7] = 3
    assert describe(data)["modalities"]["image"]["constant_channels"] == 1


def test_pairs_given_twice_are_counted_even_where_the_schema_would_refuse_them(data):
    edges = data[INTERACTS]
    edges.edge_index = torch.cat([edges.edge_index, edges.edge_index[:, :1]], dim=1)
    edges.test_edge_label_index = torch.cat(
        [edges.test_edge_label_index, edges.edge_index[:, :2]], dim=1
    )
    found = describe(data)
    assert found["repeated_pairs"] == {"training": 1, "validation": 0, "test": 0}
    assert found["shared_pairs"]["training and test"] == 2


def test_it_can_be_kept_as_json(data, plain_data):
    for graph in (data, plain_data):
        assert json.loads(json.dumps(describe(graph))) == describe(graph)
    assert describe(plain_data)["modalities"] == {}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "toys"
    root.mkdir()
    rows = [f"{u},{u * 3 % 7},4" for u in range(6)] + [f"{u},{u},5" for u in range(6)]
    (root / "log.csv").write_text("\n".join(["user,item,rating", *rows, "0,0,5", "1,3,2", ""]))
    np.save(root / "features_image.npy", np.random.default_rng(0).normal(size=(7, 3)))
    return root


def test_what_was_left_out_in_reading_is_noted_every_time(folder):
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, found = describe_dataset("csv", folder)
        assert found["notes"] == [
            "3 rows that repeat a pair of user and item were left out; the first one counts"
        ]


def test_a_leak_is_reported_with_its_size(tmp_path):
    for name, pairs in (("train", [[0, 1], [1, 1]]), ("valid", [[1, 1]]), ("test", [[0, 1]])):
        np.save(tmp_path / f"{name}_list.npy", np.array(pairs))
    with pytest.raises(DataError, match="1 validation pair is also found among the training pairs"):
        describe_dataset("pairs", tmp_path)


def test_the_command_prints_and_draws(folder, tmp_path):
    arguments = ["describe", "--dataset", "csv", "--root", str(folder), "--option", "min_rating=4"]
    plot = tmp_path / "plots" / "degrees.png"
    result = CliRunner().invoke(app, [*arguments, "--plot", str(plot)], catch_exceptions=False)
    assert "sparsity" in result.output
    assert imread(plot).shape == (600, 900, 4)
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    found = json.loads(result.output)
    assert found["users"] == 6
    assert found["oddities"][0].startswith("3 rows that repeat") or found["notes"]
    report = tmp_path / "pages" / "toys.html"
    CliRunner().invoke(app, [*arguments, "--report", str(report)], catch_exceptions=False)
    assert report.read_text().count("<svg") == 2


def test_what_is_unusual_comes_first(data, folder):
    found = oddities(describe(data))
    assert "1 of 2 validation users have no training pair" in found
    assert "1 of 6 items lack image features (16.7%)" in found
    assert "2 items share their image features with another item" in found
    assert "1 items have image features that are all zero; give NaN where they are missing" in found
    edges = data[INTERACTS]
    edges.test_edge_label_index = torch.cat(
        [edges.test_edge_label_index, edges.edge_index[:, :2]], dim=1
    )
    assert oddities(describe(data))[0].startswith("2 pairs are in both training and test")
    output = (
        CliRunner()
        .invoke(
            app, ["describe", "--dataset", "csv", "--root", str(folder)], catch_exceptions=False
        )
        .output
    )
    assert output.splitlines()[0] == (
        "! 3 rows that repeat a pair of user and item were left out; the first one counts"
    )
    assert output.index("! ") < output.index("Sizes") < output.index("Degrees in training")
    assert len(output.splitlines()) < 70


def test_ordinary_data_has_nothing_unusual():
    rows = torch.cartesian_prod(torch.arange(20), torch.arange(12)).t()
    part = rows[1] % 6
    made = build_data(20, 12, rows[:, part > 1], rows[:, part == 0], rows[:, part == 1])
    cold = [line for line in oddities(describe(made)) if "items without training" not in line]
    assert cold == ["4 of 12 items have no training pair"]


def test_a_page_with_figures_needs_no_network(data, tmp_path):
    found = {"dataset": "<b>toys</b>", **describe(data)}
    write_page(data, found, tmp_path / "toys.html")
    text = (tmp_path / "toys.html").read_text()
    assert "&lt;b&gt;toys&lt;/b&gt;" in text
    assert text.count("<svg") == 2
    assert "<h2>Unusual</h2>" in text
    assert not re.findall(r"""(?:src|href)=["']?http""", text.replace("xlink:href", ""))


def test_figures_that_can_be_drawn(data, tmp_path):
    plot_degrees(data, tmp_path / "degrees.svg")
    assert "<svg" in (tmp_path / "degrees.svg").read_text()
    for name in ("degrees.txt", "degrees"):
        with pytest.raises(ConfigError, match=r"not the name of a figure; .* ends in \.png"):
            plot_degrees(data, tmp_path / name)
