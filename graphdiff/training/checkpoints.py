"""Checkpoints: the complete state of a training after each epoch, written atomically."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from graphdiff.errors import RunError
from graphdiff.files import make_folder, write_bytes


def checkpoint_of(folder: Path) -> Path:
    """Return the path of a RUN folder's checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


class WholeCheckpoints(CheckpointIO):
    """Checkpoint files for Lightning, written atomically and read without running any code.

    Lightning's own implementation writes to the system's temporary folder and moves the file, which
    copies it where that is another disk, and does not force it to disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint with :func:`~graphdiff.files.write_bytes`.

        Raises:
            StorageError: If it cannot be written; an earlier one is unchanged.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        write_bytes(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values, and refuse anything else in it.

        Raises:
            RunError: If it is damaged or not a checkpoint.
        """
        with open(path, "rb") as file:
            try:
                checkpoint = torch.load(file, map_location=map_location, weights_only=True)
            except Exception as error:  # A damaged file may raise any error.
                reason = str(error).partition("\n")[0]
                raise RunError(
                    f"{path} is not a complete checkpoint ({reason}); train again"
                ) from None
        if not isinstance(checkpoint, dict) or "graphdiff" not in checkpoint:
            raise RunError(f"{path} is not a checkpoint written by graphdiff; train again")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, if it exists."""
        Path(path).unlink(missing_ok=True)


class KeepLast(Checkpoint):
    """Saver of the complete state, at the start and after each epoch, always to the same file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the initial state, so that there is always a checkpoint to resume from."""
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state after an epoch and its validation, where one was due."""
        trainer.save_checkpoint(self.path)
