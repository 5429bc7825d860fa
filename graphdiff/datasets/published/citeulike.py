"""CiteULike-a: articles that users saved, with tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import NonNegative
from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.encoders import encode_tfidf
from graphdiff.datasets.ids import strict_int
from graphdiff.datasets.item_features import Encoder, encoded
from graphdiff.datasets.splits import by_ratio
from graphdiff.datasets.tfidf import TfidfEncoder
from graphdiff.errors import DataError
from graphdiff.schema import build_data

USERS, ITEM_TAGS, TAGS = "users.dat", "item-tag.dat", "tags.dat"
RATIOS = (0.8, 0.1, 0.1)


class CiteULike(RecDataset):
    """Articles in the libraries of CiteULike's users, with the tags of each article as text.

    From `"Collaborative Topic Regression with Social Regularization for Tag Recommendation"
    <https://github.com/js05212/citeulike-a>`_ (Wang, Chen and Li, IJCAI 2013), as published:
    line u of ``users.dat`` has the number of user u's articles and then their numbers, from 0 on;
    line i of ``item-tag.dat`` likewise the tags of article i; line t of ``tags.dat`` is tag t.

    No split is published. Each user's articles are split at random, 80 % for training, 10 % for
    validation and 10 % for test. The modality ``text`` is the tags of an article through
    :func:`~graphdiff.datasets.encoders.encode_tfidf`, which loads no model; articles without a tag
    lack it.

    .. list-table:: Statistics with ``seed=0``
        :header-rows: 1

        * - users
          - items
          - training
          - validation
          - test
          - text
        * - 5,551
          - 16,980
          - 164,092
          - 20,447
          - 20,447
          - 256

    Args:
        root: Folder of the dataset: it holds the files itself, and is left unchanged, or they are
            in ``root/raw``.
        seed: Seed of the split (default: 0).
        encode: Encoder of the texts, from a list of N texts to ``[N, F]`` (default: TF-IDF).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "citeulike-a"

    def __init__(
        self,
        root: str | Path,
        seed: NonNegative = 0,
        encode: Encoder | None = None,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.seed, self.encode = seed, encode or encode_tfidf
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The three files."""
        return [USERS, ITEM_TAGS, TAGS]

    @property
    def parameters(self) -> dict[str, Any]:
        """The seed and the encoder."""
        return {"seed": self.seed, "encode": self.encode}

    def read(self) -> HeteroData:
        """Read the libraries, split them, and encode the tags."""
        folder = Path(self.raw_dir)
        sizes, items = read_counted_lists(folder / USERS)
        tag_counts, tags = read_counted_lists(folder / ITEM_TAGS)
        names = self._tag_names()
        num_users, num_items = len(sizes), len(tag_counts)
        for what, index, size in (("article", items, num_items), ("tag", tags, len(names))):
            if index.max(initial=-1) >= size:
                raise DataError(
                    f"{folder} has {what} {index.max()}, but its list of {what}s ends at {size - 1}"
                )
        user = np.repeat(np.arange(num_users), sizes)
        key = np.random.default_rng(self.seed).random(len(user))
        label = by_ratio(user, key, RATIOS)
        train, val, test = (np.stack([user, items])[:, label == value] for value in range(3))
        features = {"text": self._encode(_texts(names, tag_counts, tags))} if len(tags) else {}
        return build_data(num_users, num_items, train, val, test, features)

    def text_encoders(self) -> dict[str, TfidfEncoder]:
        """Return the encoder of tags, fitted once more; none where ``encode`` was given."""
        if self.encode is not encode_tfidf:
            return {}
        tag_counts, tags = read_counted_lists(Path(self.raw_dir) / ITEM_TAGS)
        if not len(tags):
            return {}
        texts = _texts(self._tag_names(), tag_counts, tags)
        return {"text": TfidfEncoder.fit([text for text in texts if text.strip()])[0]}

    def _tag_names(self) -> list[str]:
        return _read_lines(Path(self.raw_dir) / TAGS)

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Return float32 ``[I, F]``, NaN where an article has no tag."""
        has = np.array([bool(text.strip()) for text in texts])
        found = encoded(self.encode, [text for text in texts if text.strip()], "text", "texts")
        values = np.full((len(texts), found.shape[1]), np.nan, dtype=np.float32)
        values[has] = found
        return values


def _texts(names: list[str], counts: np.ndarray, tags: np.ndarray) -> list[str]:
    """Return the tags of each article, joined."""
    each = np.split(tags, counts.cumsum()[:-1])
    return [" ".join(names[tag] for tag in found) for found in each]


def read_counted_lists(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a text file whose lines each have a count and then as many integers from 0 on.

    Returns:
        The counts, int64 ``[N]``, and the integers of all lines, int64 ``[*]``.

    Raises:
        DataError: If the file is missing, damaged, or holds something else.
    """
    counts, values = [], [np.empty(0, dtype=np.int64)]
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            count, *found = map(strict_int, line.split())
            array = np.array(found, dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{path.name} line {number}: {error}; expected a count and then integers"
            ) from None
        if count != len(array) or array.min(initial=0) < 0:
            raise DataError(
                f"{path.name} line {number} says {count} and has {len(array)} numbers; expected "
                "as many as it says, from 0 on"
            )
        counts.append(count)
        values.append(array)
    if not counts:
        raise DataError(f"{path.name} is empty; expected a line for each user or article")
    return np.array(counts, dtype=np.int64), np.concatenate(values)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
