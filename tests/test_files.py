"""Files are written whole or not at all."""

import pytest

from graphdiff.errors import StorageError
from graphdiff.files import remove_parts, written_together


def test_files_that_belong_together_appear_together(tmp_path):
    (tmp_path / "a").write_text("old")
    with written_together(tmp_path, ("b", "a")) as place:
        (place / "a").write_text("new, see b")
        (place / "b").write_text("more")
        assert (tmp_path / "a").read_text() == "old"
        assert not (tmp_path / "b").exists()
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
        "a": "new, see b",
        "b": "more",
    }


def write_half(folder):
    with written_together(folder, ("b", "a")) as place:
        (place / "b").write_text("more")
        raise ValueError("cut short")


def test_nothing_changes_where_writing_fails(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ValueError, match="cut short"):
        write_half(tmp_path)
    # The second file was never made.
    with pytest.raises(StorageError), written_together(tmp_path, ("b", "a")) as place:
        (place / "b").write_text("more")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(StorageError), written_together(tmp_path / "nowhere", ("a",)):
        pass


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".a.x.part"
    left.mkdir()
    (left / "a").write_text("half")
    (tmp_path / ".b.y.part").write_text("half")
    (tmp_path / "c").write_text("whole")
    remove_parts(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["c"]
