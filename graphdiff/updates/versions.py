"""Versions of a RUN's model: ``RUN/versions/<number>``, one of which is the model of the RUN.

Each version is a complete model folder with two more files:

======================  ====================================================================
``state.safetensors``   state of the optimizer, to continue training from
``version.json``        a :class:`Version`: how it was made, and the batches that it holds
======================  ====================================================================

A version is written into a temporary folder and renamed when it is whole. Then it is copied into
the RUN itself, where writing ``config.yaml``, which names the version, is the commit: before it,
the RUN is what it was, and a version that it does not name is removed by the next change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from graphdiff.errors import RunError
from graphdiff.files import PART, make_folder, new_folder, remove_parts, write_bytes
from graphdiff.models.base import Recommender
from graphdiff.models.storage import copy_model, finish_model, load_model, save_model
from graphdiff.runs import VERSIONS, read_run, version_folder
from graphdiff.training.checkpoints import checkpoint_of
from graphdiff.training.config import Section, VersionSection
from graphdiff.training.update import UpdateResult, saved_state
from graphdiff.validation import explain

META, STATE, LOCK = "version.json", "state.safetensors", ".lock"


class Version(Section):
    """How a version of a model was made."""

    number: int = Field(ge=1, description="Its number; later ones are higher.")
    parent: int | None = Field(default=None, description="The version that it was made from.")
    kind: Literal["train", "update", "forget"] = Field(description="What made it.")
    batches: tuple[str, ...] = Field(
        default=(), description="Ids of all batches of interactions that it holds."
    )
    users: int = Field(ge=0, description="Number of users.")
    items: int = Field(ge=0, description="Number of items.")
    interactions: int = Field(ge=0, description="Number of interactions.")
    added: tuple[int, int, int] = Field(
        default=(0, 0, 0),
        description="Users, items and interactions that were added, negative if removed.",
    )
    steps: int = Field(default=0, ge=0, description="Training steps of the change.")

    @classmethod
    def of(
        cls, model: Recommender, kind: Literal["train", "update", "forget"], number: int
    ) -> Version:
        """Return the description of a model, made from nothing."""
        return cls(
            number=number,
            kind=kind,
            users=model.num_users,
            items=model.num_items,
            interactions=model.graph.num_interactions,
        )


class VersionStore:
    """The versions of a RUN's model.

    Args:
        run: A RUN folder.

    Raises:
        RunError: If it is none.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / VERSIONS
        self.config = read_run(run)

    @property
    def pointer(self) -> VersionSection:
        """Which version the RUN has, and which there are."""
        return read_run(self.run).version

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the RUN, and first remove what killed ones left.

        Raises:
            RunError: If another process is changing it.
        """
        make_folder(self.folder)
        with (self.folder / LOCK).open("a") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:
                pass  # Windows: nothing keeps two changes apart.
            except OSError:
                raise RunError(
                    f"{self.run} is being changed by another process; wait until it is done"
                ) from None
            self._clean()
            yield

    def numbers(self) -> list[int]:
        """Return the numbers of the versions, ascending."""
        found = [path.name for path in self.folder.glob("[0-9]*") if path.name.isdigit()]
        return sorted(map(int, found))

    def versions(self) -> list[Version]:
        """Return all versions, from the first to the last."""
        return [self.read(number) for number in self.numbers()]

    def path(self, number: int) -> Path:
        """Return the folder of a version."""
        return version_folder(self.run, number)

    def read(self, number: int) -> Version:
        """Return the description of a version.

        Raises:
            RunError: If there is none.
        """
        path = self.path(number) / META
        try:
            return Version.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RunError(f"{path}: {explain(Version, error)}") from None
        except OSError:
            known = ", ".join(map(str, self.numbers())) or "none"
            raise RunError(
                f"{self.run} has no version {number}; there are: {known}. Older ones are removed "
                "after each update"
            ) from None

    def model(self, number: int) -> Recommender:
        """Return the model of a version."""
        return load_model(self.path(number), Recommender)  # type: ignore[type-abstract]

    def state(self, number: int) -> dict[str, Tensor]:
        """Return the state of the optimizer of a version.

        Raises:
            RunError: If its file is missing or damaged.
        """
        path = self.path(number) / STATE
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} is not a whole state of an optimizer: {error}") from None

    def current(self) -> Version:
        """Return the version that the RUN has; the trained model becomes the first one.

        To be called while the RUN is :meth:`locked`.
        """
        number = self.pointer.number
        if number:
            return self.read(number)
        model = load_model(self.run, Recommender)  # type: ignore[type-abstract]
        model.require_updates()
        version = Version.of(model, "train", 1)
        self._write(version, model, saved_state(checkpoint_of(self.run), model))
        self._point(1, VersionSection(number=1, first=1, last=1))
        return version

    def add(
        self,
        model: Recommender,
        kind: Literal["update", "forget"],
        result: UpdateResult,
        batches: tuple[str, ...],
    ) -> Version:
        """Write a model as a new version and make it the one of the RUN.

        Args:
            model: The changed model.
            kind: What changed it. After ``"forget"``, all earlier versions and the checkpoint of
                the training are removed.
            result: Outcome of the change.
            batches: Ids of all batches that the model holds.
        """
        before = self.pointer
        number = before.last + 1
        version = Version.of(model, kind, number).model_copy(
            update={
                "parent": before.number,
                "batches": batches,
                "added": (result.users, result.items, result.interactions),
                "steps": result.steps,
            }
        )
        self._write(version, model, result.state)
        first = number if kind == "forget" else before.first
        self._point(number, VersionSection(number=number, first=first, last=number))
        self._clean()
        return version

    def activate(self, number: int) -> Version:
        """Make a version the one of the RUN.

        Raises:
            RunError: If there is no such version.
        """
        version, pointer = self.read(number), self.pointer
        self._point(number, pointer.model_copy(update={"number": number}))
        return version

    def prune(self, keep: int) -> None:
        """Remove all but the last ``keep`` versions and the one that the RUN has."""
        current = self.pointer.number
        for number in self.numbers()[:-keep]:
            if number != current:
                self._remove(number)

    def _write(self, version: Version, model: Recommender, state: Mapping[str, Tensor]) -> None:
        with new_folder(self.path(version.number)) as place:
            save_model(model, place)
            tensors = {name: value.contiguous() for name, value in state.items()}
            write_bytes(place / STATE, save(tensors))
            write_bytes(place / META, version.model_dump_json(indent=2).encode() + b"\n")

    def _point(self, number: int, pointer: VersionSection) -> None:
        copy_model(self.path(number), self.run, {"version": pointer.model_dump()})

    def _clean(self) -> None:
        """Remove what the RUN does not name: versions that were not committed, earlier ones that
        hold what was forgotten, and parts of files."""
        pointer = self.pointer
        for number in self.numbers():
            if not pointer.first <= number <= pointer.last:
                self._remove(number)
        for left in self.folder.glob(".*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        remove_parts(self.run)
        finish_model(self.run)
        if pointer.first > 1:
            shutil.rmtree(checkpoint_of(self.run).parent, ignore_errors=True)

    def _remove(self, number: int) -> None:
        # Renamed first, so that a version is there as a whole or not at all.
        hidden = self.folder / f".{number:04d}{PART}"
        shutil.rmtree(hidden, ignore_errors=True)
        os.replace(self.path(number), hidden)
        shutil.rmtree(hidden, ignore_errors=True)
