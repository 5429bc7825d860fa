"""A model as a service holds it: its catalogue, its questions and their answers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.models.base import Recommender
from graphdiff.models.storage import load_model


class Catalogue:
    """The raw ids of all items, fixed, so that it can be read while a model grows.

    Args:
        ids: The raw id of each item, or the indices themselves.
    """

    def __init__(self, ids: list[Any]) -> None:
        self.ids = ids
        self._index = {str(one): index for index, one in enumerate(ids)}
        self._sorted = sorted(self._index)

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, item: str | int) -> int:
        """The index of an item: text is a raw id, an integer is an index already.

        Raises:
            DataError: If there is no such item.
        """
        if isinstance(item, str):
            index = self._index.get(item)
            if index is None:
                raise DataError(f"no item {item!r} among the {len(self)} items of this model")
            return index
        if not 0 <= item < len(self):
            raise DataError(
                f"item index {item} is out of range; this model knows 0 to {len(self) - 1} "
                "(raw ids are given as text)"
            )
        return item

    def starting_with(self, prefix: str, limit: int) -> list[str]:
        """Raw ids as text that start with a prefix, at most ``limit``, in the order of text; with
        an empty prefix the first of the catalogue."""
        if not prefix:
            return [str(one) for one in self.ids[:limit]]
        first = bisect_left(self._sorted, prefix)
        found = islice(self._sorted, first, first + limit)
        return [one for one in found if one.startswith(prefix)]


class Served:
    """A model that answers for people of whom only their items are known.

    Args:
        model: A model that folds in.
        run: The folder that it came from, if any.

    Raises:
        ConfigError: If the model knows only the users that it was trained on.
    """

    def __init__(self, model: Recommender, run: Path | None = None) -> None:
        if not model.folds_in:
            raise ConfigError(
                f"{type(model).__name__} knows only the users it was trained on, so it cannot be "
                "served; take a model that makes a user from their items, such as LD4MRec"
            )
        self.model, self.run = model.eval(), run
        self.name = type(model).__name__
        self.catalogue = self._read_catalogue()

    @classmethod
    def open(cls, run: Path) -> Served:
        """Loads a RUN folder, and asks once so that the model's tables are ready.

        Raises:
            RunError: If there is no whole model in the folder.
            ConfigError: If the model cannot be served.
        """
        served = cls(load_model(run, Recommender), run)  # type: ignore[type-abstract]
        served.answer([Question(served, [0], 1)])
        return served

    def _read_catalogue(self) -> Catalogue:
        ids = self.model.catalogue.item_ids
        return Catalogue(list(range(self.model.num_items)) if ids is None else list(ids))

    def add_items(
        self, features: dict[str, list[list[float] | None]], ids: list[str] | None
    ) -> list[str]:
        """Adds items to the model's catalogue; see :meth:`Recommender.add_items`.

        Args:
            features: Per modality a vector for each item, or None where the item lacks it.
            ids: Their raw ids, where the model has such.

        Returns:
            The raw ids of the new items, as text.

        Raises:
            ConfigError: If the model knows items only by their interactions.
            DataError: If features or ids do not fit.
        """
        tensors = {name: self._matrix(name, vectors) for name, vectors in features.items()}
        first = self.model.num_items
        self.model.add_items(tensors, item_id=ids)
        self.catalogue = self._read_catalogue()
        return [str(one) for one in self.catalogue.ids[first:]]

    def _matrix(self, name: str, vectors: list[list[float] | None]) -> torch.Tensor:
        widths = {len(one) for one in vectors if one is not None}
        if len(widths) > 1:
            raise DataError(f"features of {name} have {sorted(widths)} values; give equally many")
        known = name in self.model.graph.modalities  # if not, the model says so
        if not widths and known:
            widths = {self.model.graph.features(name)[0].size(1)}
        width = widths.pop() if widths else 0
        lacking = [float("nan")] * width
        return torch.tensor(
            [lacking if one is None else one for one in vectors], device=self.model.device
        ).reshape(len(vectors), width)

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answers questions to this model in one call; all have the same ``candidates``."""
        rows = [question.items for question in questions]
        left_out = [(n, item) for n, one in enumerate(questions) for item in one.exclude]
        exclude = torch.tensor(left_out, dtype=torch.long).t() if left_out else None
        items, scores = self.model.recommend(
            history_index=rows,
            k=min(max(question.k for question in questions), self.model.num_items),
            exclude_index=None if exclude is None else (exclude[0], exclude[1]),
            candidate_index=questions[0].candidates,
        )
        preference = getattr(self.model, "modality_preference", None)
        gates = {} if preference is None else preference(history_index=rows)
        shares = {name: share.tolist() for name, share in gates.items()}
        return [
            Answer(
                [
                    (self.model.catalogue.item_id(item), score)
                    for item, score in zip(found[: one.k], score_row[: one.k], strict=True)
                    if item >= 0
                ],
                {name: share[n] for name, share in shares.items()} or None,
            )
            for n, (one, found, score_row) in enumerate(
                zip(questions, items.tolist(), scores.tolist(), strict=True)
            )
        ]


@dataclass(frozen=True)
class Question:
    """What somebody asks.

    Attributes:
        served: The model that is asked; it stays the same while others are loaded.
        items: Indices of what the person has interacted with.
        k: Number of items wanted.
        exclude: Indices that are not wanted, beside ``items``.
        candidates: Indices that may be recommended at all; None for all.
    """

    served: Served
    items: list[int]
    k: int
    exclude: tuple[int, ...] = ()
    candidates: list[int] | None = None


@dataclass(frozen=True)
class Answer:
    """What is recommended.

    Attributes:
        items: Raw id and score, best first.
        gate: The person's share of each modality, where the model has such.
    """

    items: list[tuple[Any, float]]
    gate: dict[str, float] | None


def answer_together(questions: list[Question]) -> list[Answer | Exception]:
    """Answers with as few calls as there are models and questions with candidates of their own."""
    groups: dict[tuple[int, int], list[int]] = {}
    for n, question in enumerate(questions):
        alone = -1 if question.candidates is None else n
        groups.setdefault((id(question.served), alone), []).append(n)
    answers: list[Answer | Exception] = [GraphDiffError("not answered")] * len(questions)
    for group in groups.values():
        for n, answer in zip(group, _answered([questions[n] for n in group]), strict=True):
            answers[n] = answer
    return answers


def _answered(questions: list[Question]) -> list[Answer | Exception]:
    try:
        return list(questions[0].served.answer(questions))
    except Exception as error:
        if len(questions) == 1:
            return [error]
        # One question's fault is not another's.
        return [answer for question in questions for answer in _answered([question])]
