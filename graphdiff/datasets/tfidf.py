"""TF-IDF and a truncated SVD: features of texts without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphdiff.errors import DataError
from graphdiff.files import write_bytes

#: Largest number of features, and the pattern of a word: underscores join, as in tags.
CHANNELS = 256
WORD = r"(?u)\w+"


class TfidfEncoder:
    """Encodes texts by words that are known, their weights, and directions in their space.

    Words are weighted by (1 + log tf) · idf, rows are scaled to length 1, and the largest singular
    directions remain (latent semantic analysis).

    Args:
        words: V words.
        idf: Weight of each, float64 ``[V]``.
        directions: ``[F, V]``.
    """

    def __init__(self, words: list[str], idf: np.ndarray, directions: np.ndarray) -> None:
        self.words, self.idf, self.directions = words, idf, directions
        self._vectorizer = _vectorizer(vocabulary={word: n for n, word in enumerate(words)})
        self._vectorizer.idf_ = idf

    @classmethod
    def fit(cls, texts: list[str], channels: int = CHANNELS) -> tuple[TfidfEncoder, np.ndarray]:
        """Return the encoder that texts determine, and their own features.

        The result depends on the texts alone.

        Args:
            texts: N texts in any language.
            channels: F at most; fewer if there are fewer texts or words.

        Returns:
            The encoder, and float32 ``[N, F]``; a row is NaN if its text has no word.

        Raises:
            DataError: If no text has a word.

        Example:
            >>> encoder, features = TfidfEncoder.fit(["red shoe", "blue shoe", "red hat"])
            >>> features.shape, sorted(encoder.words)
            ((3, 3), ['blue', 'hat', 'red', 'shoe'])
            >>> np.allclose(encoder(["red hat"]), features[2], atol=1e-5)
            True
            >>> encoder(["green coat"])
            array([[nan, nan, nan]], dtype=float32)
        """
        from sklearn.decomposition import TruncatedSVD

        vectorizer = _vectorizer()
        try:
            weights = vectorizer.fit_transform(texts)
        except ValueError:
            raise DataError(
                f"none of the {len(texts)} texts has a word; expected text, or numbers as features"
            ) from None
        if weights.shape[1] == 1:  # One word in all texts: there is nothing to decompose.
            directions, features = np.ones((1, 1)), weights.toarray()
        else:
            svd = TruncatedSVD(min(channels, *weights.shape), random_state=0)
            features = svd.fit_transform(weights)
            directions = svd.components_
        words = vectorizer.get_feature_names_out().tolist()
        return cls(words, vectorizer.idf_, directions), _rows(features, weights)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return the features of texts, float32 ``[N, F]``; a row is NaN if no word is known."""
        weights = self._vectorizer.transform(texts)
        return _rows(weights @ self.directions.T, weights)

    def save(self, path: Path) -> None:
        """Write the encoder atomically.

        Raises:
            StorageError: If the file cannot be written.
        """
        words = np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8)
        arrays = {"words": words, "idf": self.idf, "directions": self.directions}
        write_bytes(path, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))

    @classmethod
    def load(cls, path: Path) -> TfidfEncoder:
        """Read an encoder that :meth:`save` wrote.

        Raises:
            DataError: If the file is damaged, or holds something else.
        """
        try:
            found = load(path.read_bytes())
            words = found["words"].tobytes().decode().split("\n")
            idf, directions = found["idf"], found["directions"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read as an encoder of texts: {error}") from None
        if idf.shape != (len(words),) or directions.shape[1:] != idf.shape:
            raise DataError(
                f"{path} has {len(words)} words, weights {list(idf.shape)} and directions "
                f"{list(directions.shape)}, which do not fit one another"
            )
        return cls(words, idf, directions)


def _vectorizer(**settings: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, **settings)


def _rows(features: np.ndarray, weights: Any) -> np.ndarray:
    """Return features as float32, NaN where a text has no known word."""
    rows = np.asarray(features, dtype=np.float32)
    rows[weights.getnnz(axis=1) == 0] = np.nan
    return rows
