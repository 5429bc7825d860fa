"""Unpacking of untrusted archives."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from graphdiff.datasets.io.folders import is_junk
from graphdiff.errors import DataError
from graphdiff.files import new_folder

MAX_BYTES = 64 * 2**30
MAX_MEMBERS = 100_000
BLOCK = 2**20


def is_archive(path: str | Path) -> bool:
    """Return whether the content of a file is a zip or tar archive, compressed or not."""
    path = Path(path)
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def extract(archive: str | Path, folder: str | Path, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a zip or tar archive, whole or not at all.

    Members must be files and folders: paths that lead outside the folder (absolute, ``..``, a
    drive), links and devices are refused. The claimed sizes are summed before each member is
    written, and no member is written beyond its claimed size. Files of an operating system, such as
    ``__MACOSX`` and ``.DS_Store``, are skipped.

    Args:
        archive: The file.
        folder: Where to unpack it; it must be empty or not exist.
        max_bytes: Maximum size unpacked (default: 64 GiB); the free space on the disk also bounds
            it.

    Returns:
        ``folder``.

    Raises:
        DataError: If the archive is damaged, unsafe or too large, or the folder is not empty;
            nothing is left behind.
    """
    archive, folder = Path(archive), Path(folder)
    with new_folder(folder) as temporary:
        room = min(max_bytes, shutil.disk_usage(folder.parent).free)
        _unpack(archive, temporary, room)
    return folder


def _unpack(archive: Path, folder: Path, room: int) -> None:
    total = 0
    try:
        members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
        for number, (name, size, content) in enumerate(members, start=1):
            total += size
            if number > MAX_MEMBERS or total > room:
                raise DataError(
                    f"{archive} unpacks to more than {MAX_MEMBERS} members or {room} bytes, which "
                    "is the most that is allowed here"
                )
            parts = _parts(archive, name)
            if not is_junk(PurePosixPath(*parts)):
                _write(content, folder.joinpath(*parts), size, archive)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from None
    except (NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive} cannot be unpacked: {error}") from None  # Encrypted, for one.


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if member.is_dir():
                continue
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise DataError(f"{archive} holds {member.filename!r}, which is not a plain file")
            with file.open(member) as content:
                yield member.filename, member.file_size, content


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive) as file:
        for member in file:
            if member.isdir():
                continue
            content = file.extractfile(member) if member.isreg() else None
            if content is None:
                raise DataError(f"{archive} holds {member.name!r}, which is not a plain file")
            yield member.name, member.size, content


def _parts(archive: Path, name: str) -> list[str]:
    """Return the parts of a member's path, if they stay inside."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    parts = [part for part in posix.parts if part != "."]
    if (
        not parts
        or posix.is_absolute()
        or windows.is_absolute()
        or windows.drive
        or "\\" in name
        or "\0" in name
        or ".." in parts
    ):
        raise DataError(f"{archive} holds {name!r}, which would lie outside its folder")
    return parts


def _write(content: IO[bytes], path: Path, size: int, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with open(path, "xb") as file:
        while block := content.read(BLOCK):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise DataError(f"{archive}: {path.name} is not of the {size} bytes that it claims")
