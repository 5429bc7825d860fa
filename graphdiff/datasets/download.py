"""Fetching a file whole and as expected, or not at all."""

from __future__ import annotations

import hashlib
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from graphdiff.errors import DataError
from graphdiff.files import write_bytes

logger = logging.getLogger(__name__)


def download_file(
    url: str, path: str | Path, checksum: str, tries: int = 3, timeout: float = 30.0
) -> None:
    """Downloads a file, checks it, and only then puts it in its place.

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
    content = _fetch(url, tries, timeout, time.sleep)
    found = _checksum(content, checksum.partition(":")[0])
    if found != checksum:
        raise DataError(f"{url} has changed: it has {found}, expected {checksum}; nothing was kept")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


def _fetch(url: str, tries: int, timeout: float, wait: Callable[[float], None]) -> bytes:
    for attempt in range(tries):
        if attempt:
            wait(2.0 ** (attempt - 1))
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break  # Asking again would not change the answer.
        except (OSError, urllib.error.URLError) as error:
            reason = str(getattr(error, "reason", error))
    raise DataError(f"{url} cannot be downloaded: {reason}")


def _checksum(content: bytes, kind: str) -> str:
    if kind == "git":
        digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    digest.update(content)
    return f"{kind}:{digest.hexdigest()}"
