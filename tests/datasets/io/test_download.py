"""Downloads are complete and as expected, or fail."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from graphdiff.datasets.io import download
from graphdiff.datasets.io.download import download_file
from graphdiff.errors import DataError

CONTENT = b"features of many items"
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(HTTPServer):
    """A server with prepared answers, one after the other: content, a status, or ``(content,
    claimed length)`` for an answer that breaks off. Ranges are served."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.ranges = [], []
        self.url = f"http://127.0.0.1:{self.server_port}/f"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        answer = self.server.answers.pop(0)
        if isinstance(answer, int):
            self.send_error(answer, "reason")
            return
        content, length = answer if isinstance(answer, tuple) else (answer, len(answer))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if start and start >= length:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{length - 1}/{length}")
        self.send_header("Content-Length", str(length - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    server.waits = []
    monkeypatch.setattr(download.time, "sleep", server.waits.append)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_arrives(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    path = tmp_path / "new" / "folder" / "file"
    download_file((tmp_path / "source").as_uri(), path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_the_ids_of_git_are_checksums(tmp_path, server):
    server.answers = [b""]
    # The output of `git hash-object` for an empty file.
    empty = "git:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    download_file(server.url, tmp_path / "f", empty)
    assert (tmp_path / "f").read_bytes() == b""


def test_it_is_tried_again(tmp_path, server):
    server.answers = [429, 503, CONTENT]
    download_file(server.url, tmp_path / "f", SHA256)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.waits == [1, 2]


def test_it_is_given_up(tmp_path, server):
    server.answers = [503] * 4
    with pytest.raises(DataError, match="cannot be downloaded: the server answers 503 reason"):
        download_file(server.url, tmp_path / "f", SHA256, tries=4)
    assert server.waits == [1, 2, 4]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with pytest.raises(DataError, match=r"cannot be downloaded: .*refused"):
        download_file("http://127.0.0.1:9/f", tmp_path / "f", SHA256)


def test_a_missing_file_is_not_asked_for_again(tmp_path, server):
    server.answers = [404, CONTENT]
    with pytest.raises(DataError, match="the server answers 404 reason"):
        download_file(server.url, tmp_path / "f", SHA256)
    assert server.waits == []


def test_a_different_file_is_not_stored(tmp_path, server):
    server.answers = [b"something else"]
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(DataError, match=f"f has changed: .* expected {SHA256}"):
        download_file(server.url, tmp_path / "f", SHA256)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"old")]


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path, server):
    server.answers = [(CONTENT[:5], len(CONTENT)), (CONTENT[:9], len(CONTENT)), CONTENT]
    download_file(server.url, tmp_path / "f", SHA256)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5-", "bytes=9-"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_so_is_the_download_of_an_earlier_day(tmp_path, server):
    server.answers = [(CONTENT[:7], len(CONTENT)), 404, CONTENT]
    with pytest.raises(DataError, match="404"):
        download_file(server.url, tmp_path / "f", SHA256)
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:7]
    download_file(server.url, tmp_path / "f", SHA256)
    assert server.ranges[-1] == "bytes=7-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_beginning_of_something_else_is_thrown_away(tmp_path, server):
    for beginning in (b"stale", b"stale and longer than what it is to become"):
        (tmp_path / "f.part").write_bytes(beginning)
        server.answers = [CONTENT, CONTENT]
        download_file(server.url, tmp_path / "f", SHA256)
        assert (tmp_path / "f").read_bytes() == CONTENT
        assert not (tmp_path / "f.part").exists()


def test_a_whole_part_needs_no_more(tmp_path, server):
    (tmp_path / "f.part").write_bytes(CONTENT)
    server.answers = [CONTENT]
    download_file(server.url, tmp_path / "f", SHA256)
    assert server.ranges == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "f").read_bytes() == CONTENT
