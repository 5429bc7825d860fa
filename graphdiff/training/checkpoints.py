"""Checkpoints: a training's whole state after each epoch, on disk whole or not at all."""

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
    """Where a RUN folder keeps its checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


class WholeCheckpoints(CheckpointIO):
    """Lightning's door to checkpoint files: writes atomically, and reads without running anything.

    Lightning's own writes to the system's temporary folder and moves the file, which copies it
    where that is another disk, and forces nothing to disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint as :func:`~graphdiff.files.write_bytes` does.

        Raises:
            StorageError: If it cannot be written; an earlier one is still whole.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        write_bytes(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of tensors and plain values; anything else in it is refused.

        Raises:
            RunError: If it is damaged or something else.
        """
        with open(path, "rb") as file:
            try:
                checkpoint = torch.load(file, map_location=map_location, weights_only=True)
            except Exception as error:  # What a parser meets in a damaged file cannot be listed.
                reason = str(error).partition("\n")[0]
                raise RunError(f"{path} is not a whole checkpoint ({reason}); train anew") from None
        if not isinstance(checkpoint, dict) or "graphdiff" not in checkpoint:
            raise RunError(f"{path} is not a checkpoint written by graphdiff; train anew")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


class KeepLast(Checkpoint):
    """Saves the training's whole state at the start and after each epoch, always to one file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the start, so that there is always something to go on with."""
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves an epoch that is done and, where it was due, validated."""
        trainer.save_checkpoint(self.path)
