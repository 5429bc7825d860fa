"""Item tables of LD4MRec, computed once for all requests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphdiff.models.base import Tables
from graphdiff.models.ld4mrec.inference import InferencePass


@dataclass(frozen=True, kw_only=True)
class ItemTables(Tables):
    """Item tables of LD4MRec, the same for all users.

    ``item`` is Z with rows of length one, ``[I, d]``, and beside it the linear path's item
    vectors, ``[I, K]``.

    Attributes:
        row_encoder: Z, C, the M_m and the linear path's columns side by side, so that a row is
            encoded by all of them at once, ``[I, (2 + M) * d + K]``.
        channels: d.
        inference: From encoded rows to user vectors, with the weights of the same moment.
    """

    row_encoder: Tensor
    channels: int
    inference: InferencePass

    @classmethod
    def build(
        cls,
        item: Tensor,
        bias: Tensor,
        columns: list[Tensor],
        inference: InferencePass,
        linear: tuple[Tensor, Tensor] | None,
    ) -> ItemTables:
        """Return tables.

        Args:
            item: Z with rows of length one, ``[I, d]``.
            bias: ``[I]``.
            columns: Z, C and the M_m, ``[I, d]`` each; not copied where they are side by side.
            inference: The one pass.
            linear: Tables of the linear path, ``[I, K]`` each, which are appended: what encodes
                rows, and item vectors; None for none.
        """
        channels = item.size(1)
        if linear is not None:
            columns = [*columns, linear[0].to(item.dtype)]
            item = torch.cat([item, linear[1].to(item.dtype)], dim=1)
        row_encoder = side_by_side(columns)
        return cls(
            item=item, bias=bias, row_encoder=row_encoder, channels=channels, inference=inference
        )

    def split(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the columns of ``row_encoder``, or of rows times it ``[*, (2 + M) * d + K]``, into
        those of Z, ``[*, d]``, of C and the M_m, ``[*, (1 + M) * d]``, and of the linear path,
        ``[*, K]``."""
        start, stop = self.channels, encoded.size(1) - (self.item.size(1) - self.channels)
        return encoded[:, :start], encoded[:, start:stop], encoded[:, stop:]

    @property
    def encoder(self) -> Tensor:
        """Z, ``[I, d]``."""
        return self.split(self.row_encoder)[0]

    @property
    def signal_tables(self) -> Tensor:
        """C and the M_m side by side, ``[I, (1 + M) * d]``."""
        return self.split(self.row_encoder)[1]


def side_by_side(tables: list[Tensor]) -> Tensor:
    """Return tables ``[I, d]`` next to each other, ``[I, n * d]``; a view where they already are.

    Example:
        >>> whole = torch.arange(12.0).view(2, 3, 2)
        >>> joined = side_by_side(list(whole.unbind(dim=1)))
        >>> torch.equal(joined, whole.flatten(1)), joined.data_ptr() == whole.data_ptr()
        (True, True)
    """
    first, width = tables[0], sum(table.size(1) for table in tables)
    place, size = first.data_ptr(), first.element_size()
    for table in tables:
        if table.stride() != (width, 1) or table.data_ptr() != place:
            return torch.cat(tables, dim=1)
        place += size * table.size(1)
    return first.as_strided((first.size(0), width), (width, 1))
