"""Encoders of raw text and images, from the optional extra ``encoders``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from graphdiff.errors import ConfigError

TEXT_MODEL = "all-MiniLM-L6-v2"
BATCH = 64


def encode_texts(texts: list[str]) -> np.ndarray:
    """Encodes texts with a sentence transformer, ``all-MiniLM-L6-v2``.

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
    """Encodes images with the ResNet-50 of torchvision, weights ``IMAGENET1K_V2``, before its
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
            f"encoding {what} needs {package}, which is not installed; run "
            "pip install 'graphdiff[encoders]', or pass an encoder of your own as encode="
        )
