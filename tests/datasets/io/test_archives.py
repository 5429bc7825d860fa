"""Archives are unpacked completely and inside their folder, or not at all."""

import io
import struct
import tarfile
import zipfile

import pytest

from graphdiff.datasets.io import archives
from graphdiff.datasets.io.archives import extract, is_archive
from graphdiff.errors import DataError

FILES = {"toys/a.csv": b"user,item\n", "toys/deep/b.npy": bytes(range(200)), "./c": b""}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("toys")
        for name, content in files.items():
            file.writestr(name, content)


def make_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        folder = tarfile.TarInfo("toys")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


MAKERS = {"zip": make_zip, "tar": make_tar}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    def make(files):
        MAKERS[request.param](tmp_path / "archive", files)
        return tmp_path / "archive"

    return make


def refused(archive, message, **arguments):
    out = archive.parent / "out"
    with pytest.raises(DataError, match=message):
        extract(archive, out, **arguments)
    assert sorted(p.name for p in archive.parent.iterdir()) == [archive.name]


def test_files_arrive(make, tmp_path):
    archive = make(FILES)
    assert is_archive(archive)
    (tmp_path / "out").mkdir()
    assert extract(archive, tmp_path / "out") == tmp_path / "out"
    found = {p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in found} == {
        "toys/a.csv": FILES["toys/a.csv"],
        "toys/deep/b.npy": FILES["toys/deep/b.npy"],
        "c": b"",
    }


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../out2",
        "toys/../../out2",
        "..",
        "C:/x",
        "c:x",
        "\\\\host\\x",
        "..\\x",
        "a\\b",
    ],
)
def test_nothing_lies_outside(make, name):
    refused(make({"good": b"1", name: b"2"}), "which would lie outside its folder")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "archive", "w") as file:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/passwd"
        file.addfile(member)
    refused(tmp_path / "archive", "'link', which is not a plain file")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive", "w") as file:
        member = zipfile.ZipInfo("link")
        member.external_attr = 0o120777 << 16
        file.writestr(member, "/etc/passwd")
    refused(tmp_path / "archive", "'link', which is not a plain file")


def test_a_member_given_twice_is_refused(make):
    # Written as one name and as another that means the same.
    refused(make({"a": b"1", "./a": b"2"}), "cannot be unpacked: .*exists")


def test_a_bomb_is_refused_before_it_is_unpacked(make, monkeypatch):
    archive = make({"bomb": bytes(10**6)})
    assert archive.stat().st_size < 10**4
    written = []
    monkeypatch.setattr(archives, "_write", lambda *args: written.append(args))
    refused(archive, "unpacks to more than .* 999999 bytes", max_bytes=999_999)
    assert written == []


def test_so_are_many_small_ones(make, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    refused(make({f"{n}": b"" for n in range(11)}), "more than 10 members")
    archive = make({f"{n}": bytes(1000) for n in range(9)})
    refused(archive, "unpacks to more than", max_bytes=8999)


def test_more_than_the_free_space_of_the_disk_is_refused(make, monkeypatch):
    usage = archives.shutil.disk_usage("/")._replace(free=99)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    refused(make({"a": bytes(100)}), "or 99 bytes")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    archive = tmp_path / "archive"
    make_zip(archive, {"bomb": bytes(10**6)})
    content = archive.read_bytes()
    assert content.count(struct.pack("<L", 10**6)) == 2  # Beside the content, and in the directory.
    archive.write_bytes(content.replace(struct.pack("<L", 10**6), struct.pack("<L", 10)))
    refused(archive, "cannot be unpacked|not of the 10 bytes")


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_damaged_archives_are_refused(make, cut):
    archive = make({"a": bytes(range(256)) * 99, "b": bytes(range(256)) * 50})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * cut)])
    refused(archive, "cannot be unpacked|not of the")


def test_other_files_are_no_archives(tmp_path):
    path = tmp_path / "archive"
    path.write_text("hello")
    assert not is_archive(path)
    assert not is_archive(tmp_path)
    refused(path, "cannot be unpacked")


def test_a_folder_that_is_not_empty_is_unchanged(make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(DataError, match="out is not empty"):
        extract(make(FILES), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
