"""Encoders of raw text and images: TF-IDF, which loads no model, and models of an extra."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from graphdiff.datasets.tfidf import CHANNELS, TfidfEncoder
from graphdiff.errors import ConfigError

TEXT_MODEL = "all-MiniLM-L6-v2"
BATCH = 64

#: Encoders of texts that can be chosen by name.
TextEncoder = Literal["auto", "tfidf", "sentence-transformers"]


def text_encoder(
    name: TextEncoder = "auto",
) -> tuple[TextEncoder, Callable[[list[str]], np.ndarray]]:
    """Return the name of a text encoder and the encoder itself.

    Args:
        name: ``'tfidf'`` for :func:`encode_tfidf`, ``'sentence-transformers'`` for
            :func:`encode_texts`, ``'auto'`` for the latter where it is installed and the former
            otherwise.
    """
    if name == "auto":
        name = "sentence-transformers" if find_spec("sentence_transformers") else "tfidf"
    return (name, encode_tfidf if name == "tfidf" else encode_texts)


def encode_tfidf(texts: list[str], channels: int = CHANNELS) -> np.ndarray:
    """Encode texts by TF-IDF and a truncated SVD; see :meth:`TfidfEncoder.fit`.

    Args:
        texts: N texts in any language.
        channels: F at most; fewer if there are fewer texts or words.

    Returns:
        float32 ``[N, F]``; a row is NaN if its text has no word.

    Raises:
        DataError: If no text has a word.
    """
    return TfidfEncoder.fit(texts, channels)[1]


def encode_texts(texts: list[str]) -> np.ndarray:
    """Encode texts with a sentence transformer, ``all-MiniLM-L6-v2``.

    Returns:
        float32 ``[N, 384]``.

    Raises:
        ConfigError: If ``sentence-transformers`` is not installed.
    """
    _require("sentence_transformers", "sentence-transformers", "text")
    from sentence_transformers import SentenceTransformer

    encoded = SentenceTransformer(TEXT_MODEL).encode(texts, batch_size=BATCH)
    return np.asarray(encoded, dtype=np.float32)


def encode_images(paths: list[Path]) -> np.ndarray:
    """Encode images with the ResNet-50 of torchvision, weights ``IMAGENET1K_V2``, before its
    classifier.

    Returns:
        float32 ``[N, 2048]``.

    Raises:
        ConfigError: If ``torchvision`` is not installed.
    """
    _require("torchvision", "torchvision", "images")
    import torch
    from PIL import Image
    from torchvision.models import ResNet50_Weights, resnet50

    weights = ResNet50_Weights.IMAGENET1K_V2
    network, prepare = resnet50(weights=weights).eval(), weights.transforms()
    network.fc = torch.nn.Identity()
    encoded = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            images = []
            for path in paths[start : start + BATCH]:
                with Image.open(path) as image:
                    images.append(prepare(image.convert("RGB")))
            encoded.append(network(torch.stack(images)))
    return torch.cat(encoded).numpy()


def _require(module: str, package: str, what: str) -> None:
    if find_spec(module) is None:
        raise ConfigError(
            f"encoding {what} needs {package}, which is not installed; run pip "
            "install 'graphdiff-rec[encoders]', pass an encoder of your own as encode=, or, for "
            "text, give encoder=tfidf, which needs no model"
        )
