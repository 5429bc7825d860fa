"""Fetching a file whole and as expected, or not at all."""

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
    """Downloads a file, checks it, and only then puts it in its place.

    What has arrived is kept beside it as ``NAME.part``, and the next attempt, or the next call,
    goes on from there where the server can.

    Args:
        url: Where it is.
        path: Where it goes; folders are made as needed.
        checksum: ``'sha256:<hex>'``, or ``'git:<hex>'`` for the id under which git keeps the file.
        tries: Number of attempts; the wait between two doubles from one second.
        timeout: Seconds of silence after which an attempt has failed.

    Raises:
        DataError: If no attempt brings the file, or the file differs from the checksum.
        OSError: If it cannot be written.
    """
    logger.info("downloading %s", url)
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    resumed = part.exists()
    _fetch(url, part, tries, timeout, time.sleep)
    kind = checksum.partition(":")[0]
    if resumed and _checksum(part, kind) != checksum:
        # The beginning was of another file, or of none; the whole file may still be right.
        part.unlink()
        _fetch(url, part, tries, timeout, time.sleep)
    found = _checksum(part, kind)
    if found != checksum:
        part.unlink()
        raise DataError(f"{url} has changed: it has {found}, expected {checksum}; nothing was kept")
    part.replace(path)


def _fetch(url: str, part: Path, tries: int, timeout: float, wait: Callable[[float], None]) -> None:
    """Completes ``part``."""
    reason = "it was not tried"
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
                # There is nothing behind what is there: it is whole, or of another file.
                return
            if error.code < 500 and error.code != 429:
                break  # Asking again would not change the answer.
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise DataError(f"{url} cannot be downloaded: {reason}")


def _receive(response: Any, part: Path, have: int) -> None:
    """Appends what comes to what is there, or begins anew where the server does."""
    headers = getattr(response, "headers", None) or {}
    begins = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    goes_on = getattr(response, "status", None) == 206 and begins and int(begins[1]) == have
    expected = headers.get("Content-Length")
    received = 0
    block = response.read(BLOCK)
    # Only now, so that an answer without content leaves no folders behind.
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
