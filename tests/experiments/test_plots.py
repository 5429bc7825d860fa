"""Labels of figures do not overlap, and figures fit into a page."""

import re
from itertools import pairwise

import pytest
from matplotlib import rc_context

from graphdiff.experiments.plots import (
    LINE_HEIGHT,
    THEME,
    axes_size,
    inline_svg,
    label_ends,
    label_points,
    open_figure,
    plain_log,
    spread,
    style,
)


@pytest.mark.parametrize("heights", [[0.5] * 6, [0, 0.01, 0.5, 0.51], [1.0] * 9, [0.0, 1.0], []])
def test_spread_heights_keep_their_order_and_distance(heights):
    found = spread(heights, 0.1)
    assert len(found) == len(heights)
    assert all(b - a > 0.1 - 1e-9 for a, b in pairwise(found))
    assert all(-1e-9 < one < 1 + 1e-9 for one in found)


def drawn(figure):
    with rc_context(THEME):
        return inline_svg(figure, 'A "plot" <of> lines')


def test_labels_beside_lines_do_not_overlap():
    with rc_context(THEME):
        figure = open_figure(6, 4)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        label_ends(axes, [(1.0, 0.5, style(f"model {n}", n)) for n in range(12)])
    places = sorted(one.get_position()[1] for one in axes.texts)
    gap = LINE_HEIGHT / axes_size(axes)[1]
    assert all(b - a > gap - 1e-9 for a, b in pairwise(places))


def test_labels_of_near_points_do_not_overlap():
    with rc_context(THEME):
        figure = open_figure(6, 4)
        axes = figure.subplots()
        points = [(10.0 ** (n % 3), 0.5 + n / 1000, f"model {n}", {}) for n in range(9)]
        axes.plot([one[0] for one in points], [one[1] for one in points], "o")
        plain_log(axes)
        axes.set_ylim(0, 1)
        label_points(axes, points)
        text = drawn(figure)
    width, height = axes_size(axes)
    boxes = [(x * width, y * height) for x, y in (one.get_position() for one in axes.texts)]
    for n, (x, y) in enumerate(boxes):
        for u, v in boxes[:n]:
            assert abs(x - u) > 0.5 or abs(y - v) > LINE_HEIGHT - 1e-9
    for tick in ("1", "10", "100"):
        assert f">{tick}</text>" in text


def test_a_figure_in_a_page_has_the_colours_of_the_page():
    with rc_context(THEME):
        figure = open_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], label="$a$")
        axes.set_title("$x_1$ & <y>")
    text = drawn(figure)
    assert text.startswith('<svg role="img" aria-label="A &quot;plot&quot; &lt;of&gt; lines"')
    assert "currentColor" in text
    assert "var(--line)" in text
    assert "$x_1$ &amp; &lt;y&gt;</text>" in text
    assert "http" not in text
    assert "DejaVu" not in text
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', text))
    assert set(re.findall(r' id="([^"]*)"', text)) == used
    assert drawn(figure) == text
