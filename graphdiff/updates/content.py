"""Features of new items from their texts or images, encoded as those of the RUN's dataset."""

from __future__ import annotations

from pathlib import Path

from graphdiff.datasets.encoders import encode_images, encode_texts
from graphdiff.datasets.item_details import item_column_in
from graphdiff.datasets.item_features import Encoder, FeatureTable, encode_content
from graphdiff.datasets.tfidf import TfidfEncoder
from graphdiff.errors import ConfigError
from graphdiff.runs import encoder_file
from graphdiff.training.config import RunConfig


def encode_new_content(
    run: Path, config: RunConfig, modality: str, path: Path, item: str
) -> FeatureTable:
    """Return the features of items from a table of texts or a folder of images.

    Args:
        run: A RUN folder.
        config: Its configuration.
        modality: Name of the modality.
        path: The table or folder, as of :class:`~graphdiff.datasets.InteractionLog`'s ``content``.
        item: What the RUN's log calls its column of item ids.

    Raises:
        ConfigError: If the RUN did not encode this modality itself.
        DataError: If there is no content, or the RUN's encoder is damaged.
    """
    encode = _encoder(run, config, modality, path.is_dir())
    return encode_content(path, item_column_in(path, item), encode, modality)


def _encoder(run: Path, config: RunConfig, modality: str, images: bool) -> Encoder:
    stored = encoder_file(run, modality)
    if stored.is_file() and not images:
        return TfidfEncoder.load(stored)
    options = config.dataset.options
    if modality not in (options.get("content") or {}) or stored.is_file():
        raise ConfigError(
            f"the features of {modality!r} in {run} do not come from "
            f"{'images' if images else 'texts'} that it encoded; give features of new items with "
            f"--features {modality}=FILE"
        )
    if not images and options.get("encoder") == "tfidf":
        raise ConfigError(
            f"{run} has no {stored.relative_to(run)}, as it was trained by an earlier version; "
            "train again to update it with texts"
        )
    return encode_images if images else encode_texts
