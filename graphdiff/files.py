"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from graphdiff.errors import DataError, StorageError

# A file is named ".NAME.<random>.part" beside its final place until it is complete.
PART = ".part"


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file atomically: readers see the old content or the new, never a part.

    The content goes to a temporary file in the same folder, is forced to disk, and is renamed;
    then the folder is forced to disk, so that the new name survives a power failure. On any error
    the old file is unchanged. A killed process may leave its temporary file, which
    :func:`remove_parts` removes.

    Args:
        path: The file, in an existing folder.
        content: Its complete content.

    Raises:
        StorageError: If it cannot be written: no space, no permission, no folder.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(PART, f".{path.name}.", path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _storage_error(error, path) from error


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically; see :func:`write_bytes`."""
    write_bytes(path, content.encode())


@contextmanager
def written_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Write files with another library: ``with written_together(folder, names) as place``.

    The block writes the files into the folder ``place``. When it ends they are forced to disk and
    renamed into ``folder``, one after the other, in the order of ``names``: a file that refers to
    another comes after it. On any error in the block, nothing in ``folder`` changes.

    Raises:
        StorageError: If they cannot be written: no space, no permission, no folder.
    """
    try:
        with tempfile.TemporaryDirectory(PART, f".{names[-1]}.", folder) as place:
            yield Path(place)
            for name in names:
                with (Path(place) / name).open("rb") as file:
                    os.fsync(file.fileno())
            for name in names:
                os.replace(Path(place) / name, folder / name)
        _sync_folder(folder)
    except OSError as error:
        raise _storage_error(error, folder / names[-1]) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``folder`` when the block ends. After an
    error nothing is left of it.

    Raises:
        DataError: If ``folder`` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty; give a folder that is, or that does not exist")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def make_folder(path: Path) -> None:
    """Create a folder and its parents, where they do not exist.

    Raises:
        StorageError: If it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _storage_error(error, path) from error


def remove_parts(folder: Path) -> None:
    """Remove incomplete files that a killed process has left in ``folder``.

    Only for folders that no other process is writing to.
    """
    for path in folder.glob(f".*{PART}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _storage_error(error: OSError, path: Path) -> StorageError:
    return StorageError(error.errno or errno.EIO, error.strerror or str(error), str(path))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Elsewhere a folder cannot be opened, and a rename needs no sync.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not support it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
