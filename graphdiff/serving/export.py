"""LD4MRec as a program that needs neither graphdiff nor, as ONNX, PyTorch."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.files import write_bytes, written_together
from graphdiff.models.base import Recommender
from graphdiff.models.conversion import as_integer
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.models.ld4mrec.row_encoding import ROW_EXPONENT

Precision = Literal["float32", "bf16", "int8"]
Format = Literal["torch", "onnx"]

#: Items scored at a time: a batch of 1,024 users takes 256 MiB of scores.
BLOCK = 2**16
#: From this many bytes of weights an ONNX program keeps them beside it: a file holds at most 2 GiB.
ONNX_LIMIT = 2**31 - 2**24


class PackedTable(torch.nn.Module):
    """An item table, stored in few bits and read as float32.

    ``bf16`` rounds to 8 significant bits. ``int8`` scales each vector so that its largest entry is
    ±127.

    Args:
        value: ``[I, *, d]``.
        precision: How it is stored.
    """

    value: Tensor
    scale: Tensor | None

    def __init__(self, value: Tensor, precision: Precision) -> None:
        super().__init__()
        value, scale = value.detach().float(), None
        if precision == "bf16":
            value = value.bfloat16()
        elif precision == "int8":
            scale = (value.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=1e-30)
            value = (value / scale).round().to(torch.int8)
        self.register_buffer("value", value.contiguous())
        self.register_buffer("scale", scale)

    def rows(self, index: Tensor) -> Tensor:
        """Return some rows, float32 ``[n, *, d]``."""
        value = self.value[index].float()
        return value if self.scale is None else value * self.scale[index]

    def inner_product(self, vectors: Tensor) -> Tensor:
        """Return products ``[B, I]`` of ``[B, P * d]`` with the rows of a table ``[I, P, d]``."""
        if self.scale is None:
            return vectors @ self.value.float().flatten(1).t()
        product = vectors.new_zeros(())
        parts = zip(vectors.split(self.value.size(2), dim=1), self.value.unbind(1), strict=True)
        for (part, value), scale in zip(parts, self.scale.unbind(1), strict=True):
            product = product + part @ value.float().t() * scale.squeeze(-1)
        return product


class Program(torch.nn.Module):
    """The k best items of users given by their histories: LD4MRec with its item tables computed.

    Args:
        model: The model, whose weights are copied.
        k: Items for each user.
        precision: How the item tables are stored.

    Raises:
        ConfigError: If the model is not an LD4MRec, or ``k`` or ``precision`` is out of range.
    """

    bias: Tensor

    def __init__(self, model: Recommender, k: int = 20, precision: Precision = "float32") -> None:
        super().__init__()
        model, k = _checked(model, precision), as_integer(k, "k")
        if not 1 <= k <= model.num_items:
            raise ConfigError(
                f"k = {k} with a catalogue of {model.num_items} items; "
                f"k must be from 1 to {model.num_items}"
            )
        self.k, self.num_items = k, model.num_items
        self.recency: float = model.recency.exponent.item() if model.graph.age is not None else 0.0
        with model.evaluation_mode():
            tables = model.cached_tables()
        assert isinstance(tables, ItemTables)
        assert tables.bias is not None
        self.inference = copy.deepcopy(tables.inference).float()
        # In blocks of d channels, each with a scale of its own where one is needed.
        blocks = self.num_items, -1, model.config.hidden_channels
        self.row_encoder = PackedTable(tables.row_encoder.view(blocks), precision)
        # In pieces, so that no tensor holds the scores of a large catalogue.
        self.item = torch.nn.ModuleList(
            PackedTable(piece, precision) for piece in tables.item.reshape(blocks).split(BLOCK)
        )
        bias = tables.bias.detach().float()
        self.register_buffer("bias", bias.masked_fill(~model.catalogue.available, -torch.inf))
        self.eval().requires_grad_(False)

    def forward(self, history_index: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k best items of each user.

        Args:
            history_index: Long ``[nnz]``, the items of all users, one user after the other, the
                latest item of each last. Of repeats the last one counts. An index outside
                0 … I - 1 counts as no item, so -1 can fill lists up to equal lengths.
            offsets: Long ``[B]``, where the history of each user begins, in ascending order from 0.
                (As in :class:`torch.nn.EmbeddingBag`.)

        Returns:
            ``(item_index [B, k] long, score [B, k] float32)``, best first, without a user's own
            items; -1 and -inf where none is left. Equal scores come in no particular order.
        """
        num = offsets.size(0)
        row, item, weight, place = self._distinct(history_index, offsets)
        zeros = self.bias.new_zeros(num)
        degree = zeros.index_put((row,), weight, accumulate=True)
        value = degree.clamp(min=1).pow(-ROW_EXPONENT).view(-1, 1, 1)
        counted = weight
        if self.recency:
            # Items of a row after each one: those up to the end of the row, less those up to it.
            until = torch.zeros_like(weight).index_put((place,), weight).cumsum(dim=0)
            age = (degree.cumsum(dim=0)[row] - until[place]).clamp(min=0)
            counted = weight * (1 + age).pow(-self.recency)
            total = zeros.index_put((row,), counted, accumulate=True)
            counted = counted * (degree / total.clamp(min=1e-30))[row]
        read = self.row_encoder.rows(item) * counted.view(-1, 1, 1)
        size = (num, read.size(1), read.size(2))
        encoded = value * self.bias.new_zeros(size).index_put((row,), read, accumulate=True)
        return self._best(self.inference(encoded.flatten(1)), row, item, weight)

    def _distinct(self, item: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return row, item and weight of each entry, and its place in the input, ``[nnz + 1]``
        each.

        The weight is 0 for all but the last of repeats, for indices out of range, and for an entry
        that is added because some runtimes do not support empty tensors.
        """
        num = offsets.size(0)
        begun = torch.zeros_like(torch.cat([item, offsets[:1]]))
        begun = begun.index_put((offsets,), torch.ones_like(offsets), accumulate=True)
        row = begun.cumsum(dim=0)[:-1] - 1
        past = torch.full_like(offsets[:1], num * self.num_items)
        # In a flat key an index out of range would be an item of another user.
        inside = (item >= 0) & (item < self.num_items) & (row >= 0)
        key = torch.where(inside, row * self.num_items + item, past)
        key = torch.cat([key, past])
        # One key for both: not every runtime sorts equal keys in their order.
        size = torch.ones_like(key).sum()
        ordered = (key * size + torch.ones_like(key).cumsum(dim=0) - 1).sort().values
        key, place = ordered // size, ordered % size
        after = torch.cat([key, past + 1])[1:]
        weight = ((key != after) & (key < past)).to(self.bias.dtype)
        row = (key // self.num_items).clamp(max=num - 1)
        return row, key % self.num_items, weight, place

    def _best(
        self, vectors: Tensor, row: Tensor, item: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        index: Tensor | None = None
        score: Tensor | None = None
        start = 0
        for piece in self.item:
            assert isinstance(piece, PackedTable)
            stop = start + piece.value.size(0)
            found = piece.inner_product(vectors) + self.bias[start:stop]
            seen = (item >= start) & (item < stop) & (weight > 0)
            place = (item - start).clamp(min=0, max=stop - start - 1)
            # All other items have 0 added.
            penalty = torch.where(seen, -torch.inf, 0.0)
            found = found.index_put((row, place), penalty, accumulate=True)
            best, where = found.topk(min(self.k, stop - start), dim=1)
            where = where + start
            if index is not None and score is not None:
                best, where = torch.cat([score, best], dim=1), torch.cat([index, where], dim=1)
                best, chosen = best.topk(min(self.k, best.size(1)), dim=1)
                where = where.gather(1, chosen)
            index, score, start = where, best, stop
        assert index is not None
        assert score is not None
        return torch.where(score == -torch.inf, -1, index), score


def export(
    model: Recommender,
    path: str | Path,
    format: Format = "onnx",
    k: int = 20,
    precision: Precision = "float32",
) -> None:
    """Write a :class:`Program` as a file with its weights in it.

    The model's own parts (C-Net, gate) become part of the program, so they must be traceable by
    :func:`torch.export.export`.

    Batches may have any size. Inputs are called ``history_index`` and ``offsets``, outputs
    ``item_index`` and ``score``. A description (``k``, ``num_items``, ``tables``, and the raw ids
    as text in ``item_ids`` where there are some) is written along as JSON: under the key
    ``graphdiff`` of the ONNX file's metadata, in the extra file ``graphdiff.json`` of the torch
    one.

    Args:
        model: An LD4MRec, with any number of modalities.
        path: The file to write, atomically. If an ONNX program is larger than 2 GiB, its weights
            are written beside it, to ``path`` with ``.data`` at the end.
        format: ``torch`` for :func:`torch.export.load`, ``onnx`` for any ONNX runtime.
        k: Items for each user.
        precision: How item tables are stored: ``float32``, ``bf16`` or ``int8``.

    Raises:
        ConfigError: If the model is not an LD4MRec, a value is out of range, a part of the model
            cannot be exported, or a package that ONNX needs is not installed.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format = {format!r}; it must be one of torch, onnx")
    path, program = Path(path), Program(model, k, precision)
    facts: dict[str, Any] = {"k": program.k, "num_items": program.num_items, "tables": precision}
    if model.catalogue.item_ids is not None:
        # As text, since not every reader of JSON holds integers above 2^53.
        facts["item_ids"] = [str(one) for one in model.catalogue.item_ids]
    about = json.dumps(facts)
    if format == "torch":
        buffer = io.BytesIO()
        torch.export.save(_traced(program), buffer, extra_files={"graphdiff.json": about})
        write_bytes(path, buffer.getvalue())
    else:
        _write_onnx(program, path, about)


def rounded(model: LD4MRec, precision: Precision) -> LD4MRec:
    """Return the model with the item tables that an export in this precision has, to measure what
    it costs: ``evaluate(rounded(model, "int8"), data)``. It shares the model's weights.

    Raises:
        ConfigError: If the model is not an LD4MRec, or there is no such precision.
    """
    _checked(model, precision)

    def through(table: Tensor, channels: int) -> Tensor:
        parts = PackedTable(table.view(len(table), -1, channels), precision)
        rows = parts.rows(torch.arange(len(table), device=table.device))
        # A model that was trained in double precision computes users in it.
        return rows.view_as(table).to(table.dtype)

    def tables() -> ItemTables:
        exact, d = model.tables(), model.config.hidden_channels
        return replace(
            exact, item=through(exact.item, d), row_encoder=through(exact.row_encoder, d)
        )

    other = copy.copy(model)
    other.tables = tables  # type: ignore[method-assign]
    other.invalidate_tables()
    return other


def _checked(model: Recommender, precision: str) -> LD4MRec:
    if not isinstance(model, LD4MRec):
        raise ConfigError(
            f"{type(model).__name__} cannot be exported; LD4MRec can, as it computes users "
            "from their histories alone"
        )
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ConfigError(f"tables = {precision!r}; it must be one of {known}")
    return model


def _traced(program: Program) -> torch.export.ExportedProgram:
    device, last = program.bias.device, program.num_items - 1
    history_index = torch.tensor([0, last, 0, last, last], device=device)
    offsets = torch.tensor([0, 2, 2], device=device)
    dim = torch.export.Dim
    shapes: dict[str, Any] = {
        "history_index": {0: dim("nnz", min=0)},
        "offsets": {0: dim("batch", min=1)},
    }
    with torch.no_grad(), _exporting(program):
        return torch.export.export(program, (history_index, offsets), dynamic_shapes=shapes)


def _write_onnx(program: Program, path: Path, about: str) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs {error.name}, which is not installed; "
            "install it with: pip install 'graphdiff-rec[export]'"
        ) from None
    traced = _traced(program.cpu())
    with _quiet(), _exporting(program):
        exported = torch.onnx.export(
            traced,
            input_names=["history_index", "offsets"],
            output_names=["item_index", "score"],
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    exported.model.metadata_props["graphdiff"] = about
    if sum(one.nbytes for one in program.state_dict().values()) < ONNX_LIMIT:
        write_bytes(path, exported.model_proto.SerializeToString())
        return
    # The program refers to the file of its weights by name, so both get their final names.
    with written_together(path.parent, (path.name + ".data", path.name)) as folder:
        exported.save(folder / path.name, external_data=True)


@contextmanager
def _exporting(program: Program) -> Iterator[None]:
    """Name the parts of the model where PyTorch cannot export them."""
    try:
        yield
    except Exception as error:  # whatever the code of a part raises when it is traced
        parts = {type(one).__name__ for one in program.inference.modules()}
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ConfigError(
            f"PyTorch cannot export this model: {type(error).__name__}: {reason}; its parts "
            f"({', '.join(sorted(parts))}) must not branch on the values of tensors, nor use "
            "operators that the format does not have"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes to its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
