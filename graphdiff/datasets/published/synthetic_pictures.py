"""Pictures of synthetic items: a shape and a colour by the style of the image, as SVG."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np

#: One colour per style, in the order of :data:`.synthetic_words.LOOKS`, whose names it follows.
COLOURS = (
    "#d9a514", "#c4243b", "#8e9aa6", "#2f8fe0", "#1f9d61", "#e08a1e", "#8150c8", "#c2b280",
    "#e03a2a", "#b4673a", "#4a4fb5", "#a89bb0", "#2aa58a", "#f0705a", "#94702f", "#2453b8",
    "#e0729a", "#7d8a2e", "#7fa8c9", "#93a3a8", "#eab53c", "#5c6fa8", "#6d5878", "#55606a",
    "#b9a9d4", "#f2b705", "#3a3f4a", "#c9553f", "#3d9fb3", "#6fb7b1", "#7c2f5f", "#a5502d",
)  # fmt: skip
#: Outlines within the square from -20 to 20.
SHAPES = (
    "M0-20a20 20 0 1 0 .1 0z",  # disc
    "M-17-17H17V17H-17z",  # square
    "M0-20L19 15H-19z",  # triangle
    "M0-21L21 0L0 21L-21 0z",  # diamond
    "M0-20L5.9-7.2L19.8-5.6L9.5 4L12.2 17.8L0 11L-12.2 17.8L-9.5 4L-19.8-5.6L-5.9-7.2z",  # star
    "M-7-20H7V-7H20V7H7V20H-7V7H-20V-7H-7z",  # cross
    "M-10-18H10L21 0L10 18H-10L-21 0z",  # hexagon
    "M-20 6A20 20 0 0 0 20 6L9-14A10 10 0 0 0-9-14z",  # bell
)
_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='-32 -32 64 64'>"
    "<rect x='-32' y='-32' width='64' height='64' fill='{colour}' fill-opacity='.22'/>"
    "<path d='{shape}' fill='{colour}' transform='rotate({angle}) scale({scale})'/></svg>"
)


def draw_styles(style: np.ndarray, has_image: np.ndarray) -> list[str]:
    """Return pictures of items as data URIs, so that no file is needed.

    Items of one style have the same shape and colour, at other angles and sizes.

    Args:
        style: Styles of the image, integer ``[I]`` from 0 to 31.
        has_image: Bool ``[I]``; an item without an image gets an empty text.
    """
    return [
        _picture(index, one) if has else ""
        for index, (one, has) in enumerate(zip(style.tolist(), has_image.tolist(), strict=True))
    ]


def _picture(index: int, style: int) -> str:
    svg = _SVG.format(
        colour=COLOURS[style],
        shape=SHAPES[style % len(SHAPES)],
        angle=37 * index % 50 - 25,
        scale=0.8 + 0.1 * (index % 4),
    )
    return "data:image/svg+xml," + quote(svg, safe=" =':/;,().-")
