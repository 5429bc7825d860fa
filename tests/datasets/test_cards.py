"""Cards in a checkout and in a package, and the search for their files."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphdiff.cli.main import app
from graphdiff.datasets import cards
from graphdiff.datasets.cards import Card, card_names, data_folder
from graphdiff.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def card():
    content = b"pairs"
    files = {
        "train.pkl": {"checksum": "sha256:" + hashlib.sha256(content).hexdigest()},
        "NAME.inter": {},
        "text.npy": {"optional": True},
    }
    return Card("toys", "Toys", "here", "free", "graphdiff …", {"files": files})


def test_files_are_looked_for_and_checked(card, tmp_path):
    assert card.found(None) == "not looked for"
    assert card.found(tmp_path) == card.found(tmp_path / "nowhere") == "none"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.pkl").write_bytes(b"pairs")
    assert card.found(tmp_path) == "lacks NAME.inter"
    (tmp_path / "toys.inter").write_text("")
    assert card.found(tmp_path) == card.found(tmp_path, check=True) == f"yes, in {tmp_path}"
    (tmp_path / "raw" / "train.pkl").write_bytes(b"other")
    assert card.found(tmp_path) == f"yes, in {tmp_path}"
    assert card.found(tmp_path, check=True) == "changed: train.pkl"


def test_the_folder_may_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("GRAPHDIFF_DATA", raising=False)
    assert data_folder(None, "toys") is None
    monkeypatch.setenv("GRAPHDIFF_DATA", str(tmp_path))
    assert data_folder(None, "toys") == tmp_path / "toys"
    assert data_folder(Path("mine"), "toys") == Path("mine/toys")


def test_the_command_lists_all(tmp_path):
    (tmp_path / "baby").mkdir()
    (tmp_path / "baby" / "baby.inter").write_text("")
    arguments = ["datasets", "--root", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert set(rows) == card_names() != set()
    assert rows["baby"]["files"] == f"yes, in {tmp_path / 'baby'}"
    assert rows["sports"]["files"] == "none"
    assert rows["synthetic"]["files"] == "none needed"
    assert rows["mmrec"]["files"].startswith("a layout")
    text = CliRunner().invoke(app, [*arguments, "--check"], catch_exceptions=False).output
    for row in rows.values():
        for value in row.values():
            assert value in text


def test_a_wheel_holds_the_cards(tmp_path, monkeypatch):
    build = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    names_of_cards = card_names()
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        wheel.extractall(tmp_path, [name for name in wheel.namelist() if "/cards/" in name])
    built = {p.parent.name: p for p in (tmp_path / "graphdiff" / "cards").glob("*/card.yaml")}
    assert set(built) == names_of_cards != set()
    # An installed package finds them without the checkout.
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "graphdiff" / "datasets" / "cards.py"))
    assert cards.cards_folder() == tmp_path / "graphdiff" / "cards"
    assert [card.name for card in cards.cards()] == sorted(names_of_cards)
    built["baby"].write_text("name: baby\n")
    with pytest.raises(DataError, match=r"card\.yaml is not a card"):
        cards.cards()


def test_a_package_without_cards_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "graphdiff" / "datasets" / "cards.py"))
    with pytest.raises(DataError, match="has no cards of datasets"):
        cards.cards_folder()
