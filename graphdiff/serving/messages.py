"""Requests and answers of the service: bodies and limits."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

#: Faults of one request that an answer lists.
MOST_FAULTS = 20


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid Unicode, without lone surrogates") from None
    return text


Text = Annotated[StrictStr, AfterValidator(_encodable)]


class Limits(BaseModel):
    """Sizes that a service accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    history: int = Field(1000, ge=1, description="Most items in a history, and most excluded.")
    candidates: int = Field(100_000, ge=1, description="Most candidates of one request.")
    k: int = Field(500, ge=1, description="Most items recommended.")
    new_items: int = Field(1000, ge=1, description="Most items added at once.")
    body: int = Field(2**21, ge=1, description="Bytes of a request's body.")
    explained: int = Field(50, ge=1, description="Most items explained at once.")
    queue: int = Field(256, ge=1, description="Most requests that wait.")
    batch: int = Field(64, ge=1, description="Most requests answered in one call.")
    wait: float = Field(0.002, ge=0, description="Seconds that a request waits for others.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecommendRequest(_Body):
    """A user and what may be recommended.

    Items are raw ids, always as text, or indices in the fields whose names end in ``_index``.
    """

    history: list[Text] | None = Field(
        None,
        min_length=1,
        description="Raw ids of the items that the user interacted with, the latest last.",
    )
    history_index: list[StrictInt] | None = Field(
        None, min_length=1, description="The same by index, instead of `history`."
    )
    k: StrictInt = Field(20, ge=1, description="Number of items; fewer where fewer remain.")
    exclude: list[Text] = Field([], description="Raw ids to leave out beside the history.")
    exclude_index: list[StrictInt] = Field([], description="Indices to leave out as well.")
    candidates: list[Text] | None = Field(
        None, min_length=1, description="Raw ids of the items that may be recommended; default all."
    )
    candidate_index: list[StrictInt] | None = Field(
        None, min_length=1, description="The same by index, instead of `candidates`."
    )
    explore: FiniteFloat = Field(
        0.0, ge=0, le=1, description="Least share of items without training interactions."
    )
    popularity_discount: FiniteFloat = Field(
        0.0, ge=0, description="What popular items lose, for more of the tail; 0: nothing."
    )
    ignore_unknown: StrictBool = Field(
        False,
        description="Leave out raw ids that the model does not know, such as of the newest items, "
        "and list them in the answer, instead of refusing the request.",
    )

    @model_validator(mode="after")
    def _once(self) -> RecommendRequest:
        if (self.history is None) == (self.history_index is None):
            raise ValueError("give either history or history_index")
        if self.candidates is not None and self.candidate_index is not None:
            raise ValueError("give candidates or candidate_index, not both")
        return self


class AddItemsRequest(_Body):
    """Items that the model was not trained on."""

    features: dict[Text, list[list[FiniteFloat] | None]] = Field(
        description="Per modality a vector for each item; null where an item lacks it."
    )
    item_id: list[Annotated[Text, Field(min_length=1)]] | None = Field(
        None, description="Raw ids of the items, if the model has raw ids."
    )
    details: dict[Literal["title", "category", "image"], list[Text | None]] | None = Field(
        None, description="Texts for display, one per item; null where an item has none."
    )


class ReloadRequest(_Body):
    """A RUN folder to serve from now on."""

    run: Text | None = Field(
        None, description="A folder in the one given as --runs; by default the present one."
    )


class ExplainRequest(_Body):
    """A user and the items whose scores are to be explained."""

    history: list[Text] | None = Field(
        None,
        min_length=1,
        description="Raw ids of the items that the user interacted with, the latest last.",
    )
    history_index: list[StrictInt] | None = Field(
        None, min_length=1, description="The same by index, instead of `history`."
    )
    items: list[Text] | None = Field(
        None, min_length=1, description="Raw ids of the items to explain."
    )
    item_index: list[StrictInt] | None = Field(
        None, min_length=1, description="The same by index, instead of `items`."
    )
    num_items: StrictInt = Field(
        10, ge=1, le=100, description="Largest number of items of the history to name."
    )

    @model_validator(mode="after")
    def _once(self) -> ExplainRequest:
        if (self.history is None) == (self.history_index is None):
            raise ValueError("give either history or history_index")
        if (self.items is None) == (self.item_index is None):
            raise ValueError("give either items or item_index")
        return self


class ItemCard(BaseModel):
    """What people see of an item."""

    item: str = Field(description="Raw id, as text.")
    item_index: int
    title: str | None = None
    category: str | None = None
    image: str | None = Field(None, description="Address of a picture, as the data give it.")
    new: bool = Field(False, description="Whether no training user has the item.")


class ScoredItem(ItemCard):
    """An item and its score."""

    score: float


class FoundItems(BaseModel):
    """Items that a search found."""

    items: list[ItemCard]


class SimilarResponse(BaseModel):
    """Items by similarity, the most similar first; the score is a cosine."""

    items: list[ScoredItem]
    model: str


class RecommendResponse(BaseModel):
    """The answer to a request, best item first."""

    items: list[ScoredItem]
    gate: dict[str, float] | None = Field(
        description="Weight of each modality, if the model has weights."
    )
    gate_is_personal: bool = Field(
        False, description="Whether users differ in the weights of the modalities."
    )
    unknown: list[str] = Field([], description="Raw ids that were left out.")
    model: str


class Reason(BaseModel):
    """An item of the history that speaks for a recommendation."""

    item: ItemCard
    why: list[str] = Field(description='Such as "similar image" and "7 users in common".')


class ItemContribution(BaseModel):
    """What one item of the history adds to a score."""

    item: ItemCard
    value: float
    parts: dict[str, float]


class ItemLink(BaseModel):
    """A connection of two items in the training data."""

    source: str = Field(description="Raw id.")
    target: str = Field(description="Raw id.")
    relation: str = Field(description="A modality, or `users`.")
    weight: float = Field(description="Cosine of the features, or number of common users.")


class ExplainedItem(BaseModel):
    """Why an item has its score."""

    item: ItemCard
    score: float
    parts: dict[str, float] = Field(description="They sum to the score.")
    remainder: dict[str, float] = Field(description="They sum to the part `remainder`.")
    because: list[Reason]
    history: list[ItemContribution] = Field(description="Largest contribution first.")
    unnamed: float = Field(description="Contribution of the history's other items.")
    between: list[ItemCard] = Field(description="Items of the links that are not of the history.")
    links: list[ItemLink]


class ExplainResponse(BaseModel):
    """Explanations, in the order of the request."""

    explanations: list[ExplainedItem]
    model: str


def parse_json(body: bytes) -> Any:
    """Parse a body that follows RFC 8259. Python's parser alone would accept NaN and infinities,
    and an answer that quotes them could not be sent.

    Raises:
        json.JSONDecodeError: If the body is not UTF-8, not JSON, or holds such a number.
    """
    try:
        return _DECODER.decode(body.decode("utf-8-sig"))
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None
    except ValueError as error:  # not UTF-8, or numbers that are too long
        raise json.JSONDecodeError(str(error), "", 0) from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; expected a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond the range of float64; expected a finite number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def faults(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Return validation errors in a form that can always be encoded as JSON."""
    return [
        {
            "loc": [one if isinstance(one, int) else sendable(str(one)) for one in error["loc"]],
            "msg": sendable(error["msg"] + _reason(error)),
            "type": error["type"],
            "input": sendable(reprlib.repr(error["input"])),
        }
        for error in errors[:MOST_FAULTS]
    ]


def _reason(error: dict[str, Any]) -> str:
    reason = (error.get("ctx") or {}).get("error")
    return f": {reason}" if error["type"] == "json_invalid" and reason else ""


def sendable(text: str) -> str:
    """Return text with every lone surrogate, which UTF-8 has no bytes for, as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
