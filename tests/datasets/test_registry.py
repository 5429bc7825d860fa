"""Datasets are found by name, and each has a card that tells the truth."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from graphdiff.cli.main import app
from graphdiff.datasets import LAYOUTS, REGISTRY, SyntheticMultimedia, TikTok, load
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, modalities

CARDS = Path(__file__).parents[2] / "datasets"


def card(name):
    return yaml.safe_load((CARDS / name / "card.yaml").read_text())


def test_a_dataset_is_opened_by_name():
    dataset = load("Synthetic", seed=2, num_users=5, num_items=20)
    assert isinstance(dataset, SyntheticMultimedia)
    assert dataset.seed == 2
    assert dataset[0]["user"].num_nodes == 5


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(ConfigError, match=r"no dataset 'netflix'; there are .*mmrec, .*tiktok"):
        load("netflix")


def test_an_unknown_argument_is_refused_with_those_known(tmp_path):
    with pytest.raises(ConfigError, match="'tiktok' takes no argument 'k_core'"):
        load("tiktok", tmp_path, k_core=5)
    with pytest.raises(ConfigError, match=r"takes no argument 'kcore'; it takes .*k_core"):
        load("csv", tmp_path, kcore=5)


def test_a_root_that_is_needed_is_asked_for():
    with pytest.raises(DataError, match=r"'tiktok' is read from files; give the folder .*--root"):
        load("tiktok")


def test_every_dataset_has_a_card_and_every_card_a_dataset():
    assert {path.parent.name for path in CARDS.glob("*/card.yaml")} == set(REGISTRY)
    listed = (CARDS / "README.md").read_text()
    for name in REGISTRY:
        assert card(name)["name"] == name
        assert f"--dataset {name}" in card(name)["command"]
        assert f"({name}/card.yaml)" in listed
        for key in ("title", "description", "source", "licence", "files", "statistics", "get"):
            assert key in card(name)


def test_a_dataset_without_a_class_of_its_own_says_which_layout_it_is_in():
    for name, cls in REGISTRY.items():
        assert cls is LAYOUTS.get(card(name).get("layout"), cls)
        if cls in LAYOUTS.values():
            assert card(name)["layout"] in LAYOUTS


def test_commands_of_cards_are_commands():
    """Every option of a card's command is one of the command line, and every argument one that the
    dataset takes; what then fails is that the folder is not there."""
    for name in set(REGISTRY) - {"synthetic", "tiktok"}:
        command = card(name)["command"].replace("DIR", "no-such-folder").split()
        assert command[:2] == ["graphdiff", "train"]
        with pytest.raises(DataError, match="no-such-folder"):
            CliRunner().invoke(app, command[1:], catch_exceptions=False)


def test_the_card_of_tiktok_has_the_checksums_that_are_checked():
    files = card("tiktok")["files"]
    assert {name: entry["checksum"] for name, entry in files.items()} == TikTok.checksums
    assert card("tiktok")["source"]["url"].rpartition("/tree/")[2] in TikTok.url.replace(
        "HKUDS/DiffMM/", "", 1
    )


def test_the_card_of_the_synthetic_dataset_has_its_statistics():
    data = load("synthetic")[0]
    edges, found = data[INTERACTS], card("synthetic")["statistics"]
    noise = edges.is_noise.float().mean().item()
    assert found.pop("share_of_noise") == pytest.approx(noise, abs=0.005)
    degrees = [
        edges.edge_index[row].bincount(minlength=data[node].num_nodes)
        for row, node in enumerate(("user", "item"))
    ]
    assert found == {
        "users": data["user"].num_nodes,
        "items": data["item"].num_nodes,
        "training": edges.edge_index.size(1),
        "validation": edges.val_edge_label_index.size(1),
        "test": edges.test_edge_label_index.size(1),
        "users_without_training_interactions": int((degrees[0] == 0).sum()),
        "items_without_training_interactions": int((degrees[1] == 0).sum()),
        "channels": {name: data["item"][f"x_{name}"].size(1) for name in modalities(data)},
    }


def test_the_code_of_the_cards_runs():
    _, *blocks = (CARDS / "README.md").read_text().split("```python\n")
    names: dict = {}
    for block in blocks:
        exec(block.partition("```")[0], names)
    assert names["data"]["item"].num_nodes == 4
