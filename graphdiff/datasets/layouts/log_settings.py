"""Settings of an interaction log: its columns, its filters and its split."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphdiff.datasets.arguments import Integer, NonNegative, Number, explain
from graphdiff.datasets.interactions import Interactions, drop_repeats, k_core, keep_rated
from graphdiff.datasets.io.tables import refuse_absent
from graphdiff.datasets.splits import by_ratio, check_ratios, global_time, leave_one_out
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import DETAILS


class LogSettings(BaseModel):
    """Settings of an interaction log: its columns, its filters and its split.

    They are applied in the order ratings, repeats, k-core, split. A column that is optional may be
    missing only as long as it has its usual name: one that is named otherwise must be there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field("user", description="Name of the column of user ids, of any type.")
    item: str = Field("item", description="Name of the column of item ids, of any type.")
    timestamp: str = Field(
        "timestamp", description="Name of the column of times, numbers or dates; optional."
    )
    rating: str = Field("rating", description="Name of the column of ratings; optional.")
    split_column: str = Field(
        "split", description="Name of the column that holds the split; optional."
    )
    title: str = Field("title", description="Name of the column of titles of items; optional.")
    category: str = Field("category", description="Name of the column of categories; optional.")
    image: str = Field("image", description="Name of the column of image addresses; optional.")
    min_rating: Number | None = Field(
        None, description="Minimum rating that counts as an interaction; None: all count."
    )
    duplicates: Literal["first", "last", "error"] = Field(
        "first", description="Which of several rows of one user and item is used."
    )
    k_core: Integer = Field(
        0, ge=0, description="Minimum number of interactions of every user and item; 0 or 1: any."
    )
    split: Literal["auto", "column", "leave_one_out", "ratio", "global_time"] = Field(
        "auto",
        description="'column' takes the split from split_column; 'leave_one_out' holds out each "
        "user's last two; 'ratio' splits each user's interactions; 'global_time' splits all at "
        "two points in time; 'auto' is 'column' where there is one, otherwise 'ratio'.",
    )
    by: Literal["random", "time"] = Field(
        "random", description="Order of interactions in 'leave_one_out' and 'ratio'."
    )
    ratios: tuple[Number, Number, Number] = Field(
        (0.8, 0.1, 0.1), description="Shares of training, validation and test."
    )
    seed: NonNegative = Field(0, description="Seed of a random split.")

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """Make settings from keyword arguments.

        Raises:
            ConfigError: Naming the setting, what was found and what is known.
        """
        unknown = sorted(set(settings) - set(cls.model_fields))
        if unknown:
            raise ConfigError(
                f"an interaction log takes no argument {', '.join(map(repr, unknown))}; it takes "
                f"{', '.join(cls.model_fields)}"
            )
        try:
            made = cls(**settings)
        except ValidationError as error:
            raise ConfigError(f"an interaction log cannot take {explain(error)}") from None
        check_ratios(made.ratios)
        return made

    @property
    def roles(self) -> dict[str, str]:
        """Return what the file calls the column of each role."""
        return {
            "user": self.user,
            "item": self.item,
            "timestamp": self.timestamp,
            "rating": self.rating,
            "split": self.split_column,
        }

    def roles_among(self, names: Collection[Any], where: str) -> dict[str, str]:
        """Return those of :attr:`roles` whose column is among the names of a table.

        Args:
            names: Names of the columns.
            where: What the table is called in the error.

        Raises:
            DataError: If there are no users or no items, or not what :attr:`named_columns` lists,
                or no ratings although there is a least one.
        """
        found = {role: name for role, name in self.roles.items() if name in names}
        for role in ("user", "item"):
            if role not in found:
                raise DataError(
                    f"{where} has the columns {', '.join(map(str, names))}, but not "
                    f"{self.roles[role]}; say what it is called, such as {role}=NAME"
                )
        refuse_absent(names, self.named_columns, where)
        self.refuse_unrated(names, where)
        return found

    def check_named(self, there: Collection[str], where: str) -> None:
        """Refuse a table that lacks what :attr:`named_columns` lists, or the ratings that
        ``min_rating`` needs. That there are no users or no items comes first, and is for the reader
        of the table to say.

        Raises:
            DataError: If a column is missing.
        """
        if self.user in there and self.item in there:
            refuse_absent(there, self.named_columns, where)
            self.refuse_unrated(there, where)

    def refuse_unrated(self, there: Collection[Any], where: str) -> None:
        """Refuse a table without ratings if there is a least one.

        Raises:
            DataError: Naming the columns there are, and the one that was looked for.
        """
        if self.min_rating is not None and self.rating not in there:
            raise DataError(
                f"{where} has the columns {', '.join(map(str, there))}, but no column of ratings "
                f"called {self.rating}, which min_rating={self.min_rating:g} needs; say what it is "
                "called, such as rating=NAME, or leave out min_rating"
            )

    @property
    def named_columns(self) -> dict[str, str]:
        """Return, by setting, the optional columns of the log that were given a name, so that they
        must be there."""
        names = ("timestamp", "rating", "split_column")
        given = {name: getattr(self, name) for name in names}
        usual = type(self).model_fields
        return {name: column for name, column in given.items() if column != usual[name].default}

    @property
    def details(self) -> dict[str, str]:
        """Return what a table of items calls the column of each detail."""
        return {name: getattr(self, name) for name in DETAILS}

    @property
    def required_details(self) -> list[str]:
        """Return the details whose column was given a name, so that it must be there."""
        return [name for name, column in self.details.items() if column != name]

    def used_roles(self, there: Collection[str]) -> set[str]:
        """Return the roles that filtering and splitting need, of a log with the given ones."""
        by_column = self.split == "column" or (self.split == "auto" and "split" in there)
        by_time = self.split == "global_time" or (self.by == "time" and not by_column)
        needed = {"timestamp": by_time, "rating": self.min_rating is not None, "split": by_column}
        return {role for role, is_needed in needed.items() if is_needed}

    def filtered(self, log: Interactions) -> Interactions:
        """Return the log without what does not count."""
        if len(log) == 0:
            raise DataError("the log holds no interactions")
        if self.min_rating is not None:
            log = keep_rated(log, self.min_rating)
        log = drop_repeats(log, self.duplicates)
        return k_core(log, self.k_core) if self.k_core > 1 else log

    def labels(self, log: Interactions) -> np.ndarray:
        """Return the split of each interaction, int8 ``[E]``.

        Raises:
            DataError: If the log lacks the column that the split needs.
        """
        kind = self.split_kind(log.label is not None, log.time is not None)
        if kind == "column":
            assert log.label is not None
            return log.label
        by_time = kind == "global_time" or self.by == "time"
        key = log.time if by_time else np.random.default_rng(self.seed).random(len(log))
        assert key is not None
        if kind == "global_time":
            return global_time(key, self.ratios)
        if kind == "ratio":
            return by_ratio(log.user, key, self.ratios)
        return leave_one_out(log.user, key)

    def split_kind(self, has_labels: bool, has_times: bool) -> str:
        """Return the split of a log with or without labels and times: 'column', 'ratio',
        'leave_one_out' or 'global_time'.

        Raises:
            DataError: If the log lacks the column that the split needs.
        """
        kind: str = self.split
        if kind == "auto":
            kind = "column" if has_labels else "ratio"
        if kind == "column" and not has_labels:
            raise DataError(f"the log has no column {self.split_column!r} to split by")
        by_time = kind == "global_time" or (kind != "column" and self.by == "time")
        if by_time and not has_times:
            raise DataError(
                f"the log has no column {self.timestamp!r} to split by; say what it is called, "
                "such as timestamp=date, or split at random"
            )
        return kind
