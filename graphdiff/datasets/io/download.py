"""Downloads that are complete and as expected, or fail."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphdiff.errors import DataError

logger = logging.getLogger(__name__)

BLOCK = 2**20


def download_file(
    url: str, path: str | Path, checksum: str, tries: int = 3, timeout: float = 30.0
) -> None:
    """Download a file, check it, and only then move it to its place.

    A partial download is stored beside it as ``NAME.part``; the next attempt, or the next call,
    resumes it if the server can.

    Args:
        url: Address of the file.
        path: Where to store it; folders are created as needed.
        checksum: ``'sha256:<hex>'``, or ``'git:<hex>'`` for its object id in git.
        tries: Number of attempts; the wait between two doubles from one second.
        timeout: Seconds of silence after which an attempt has failed.

    Raises:
        DataError: If no attempt succeeds, or the file differs from the checksum.
        OSError: If it cannot be written.
    """
    logger.info("downloading %s", url)
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    resumed = part.exists()
    _fetch(url, part, tries, timeout, time.sleep)
    kind = checksum.partition(":")[0]
    if resumed and _checksum(part, kind) != checksum:
        # The partial file was of another version; the whole file may still be right.
        part.unlink()
        _fetch(url, part, tries, timeout, time.sleep)
    found = _checksum(part, kind)
    if found != checksum:
        part.unlink()
        raise DataError(
            f"{url} has changed: it has {found}, expected {checksum}; the download was discarded"
        )
    part.replace(path)


def _fetch(url: str, part: Path, tries: int, timeout: float, wait: Callable[[float], None]) -> None:
    """Complete ``part``."""
    reason = "no attempt was made"
    for attempt in range(tries):
        if attempt:
            wait(2.0 ** (attempt - 1))
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.urlopen(request, timeout=timeout) as response:
                _receive(response, part, have)
                return
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:
                # The server has nothing beyond it: the file is complete, or of another version.
                return
            if error.code < 500 and error.code != 429:
                break  # Another attempt would get the same answer.
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise DataError(f"{url} cannot be downloaded: {reason}")


def _receive(response: Any, part: Path, have: int) -> None:
    """Append the response to the partial file, or start over if the server does."""
    headers = getattr(response, "headers", None) or {}
    begins = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    goes_on = getattr(response, "status", None) == 206 and begins and int(begins[1]) == have
    expected = headers.get("Content-Length")
    received = 0
    block = response.read(BLOCK)
    # Created only now, so that a response without content leaves no folders behind.
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab" if goes_on else "wb") as file:
        while block:
            file.write(block)
            received += len(block)
            block = response.read(BLOCK)
    if expected is not None and received < int(expected):
        raise OSError(f"the connection ended after {received} of {expected} bytes")


def _checksum(path: Path, kind: str) -> str:
    if kind == "git":
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"
