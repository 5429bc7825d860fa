"""A file arrives whole and as expected, or not at all."""

import hashlib
import io
import urllib.error
import urllib.request

import pytest

from graphdiff.datasets import download
from graphdiff.datasets.download import download_file
from graphdiff.errors import DataError

CONTENT = b"features"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Answers requests with what it is given, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.waits = []

    def __call__(self, url, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)


@pytest.fixture
def serve(monkeypatch):
    def start(*answers):
        server = Server(*answers)
        monkeypatch.setattr(urllib.request, "urlopen", server)
        monkeypatch.setattr(download.time, "sleep", server.waits.append)
        return server

    return start


def status(code):
    return urllib.error.HTTPError("http://x", code, "reason", {}, None)


def test_it_arrives(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    path = tmp_path / "new" / "folder" / "file"
    download_file((tmp_path / "source").as_uri(), path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_the_ids_of_git_are_checksums(tmp_path, serve):
    serve(b"")
    # What `git hash-object` says of an empty file.
    download_file("x", tmp_path / "f", "git:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    assert (tmp_path / "f").read_bytes() == b""


def test_it_is_tried_again(tmp_path, serve):
    server = serve(TimeoutError("slow"), status(503), CONTENT)
    download_file("x", tmp_path / "f", SHA256)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.waits == [1, 2]


def test_it_is_given_up(tmp_path, serve):
    server = serve(*[urllib.error.URLError("no route")] * 9)
    with pytest.raises(DataError, match="x cannot be downloaded: no route"):
        download_file("x", tmp_path / "f", SHA256, tries=4)
    assert server.waits == [1, 2, 4]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_not_asked_for_again(tmp_path, serve):
    server = serve(status(404), CONTENT)
    with pytest.raises(DataError, match="the server answers 404 reason"):
        download_file("x", tmp_path / "f", SHA256)
    assert server.waits == []


def test_what_differs_is_not_kept(tmp_path, serve):
    serve(b"something else")
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(DataError, match=f"x has changed: .* expected {SHA256}"):
        download_file("x", tmp_path / "f", SHA256)
    assert (tmp_path / "f").read_bytes() == b"old"
