"""Labels of figures do not overlap, and figures fit into a page."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import rc_context

from graphdiff.experiments.plots import (
    LETTER,
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
    two_ticks,
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
        points = [
            (10.0 ** (n % 3), 0.5 + n / 1000, style(f"model {n}", n), n == 0) for n in range(9)
        ]
        axes.plot([one[0] for one in points], [one[1] for one in points], "o")
        axes.set_ylim(0, 1)
        plain_log(axes)
        label_points(axes, points)
        text = drawn(figure)
    width, height = axes_size(axes)
    boxes = [(x * width, y * height) for x, y in (one.get_position() for one in axes.texts)]
    for n, (x, y) in enumerate(boxes):
        for u, v in boxes[:n]:
            assert abs(x - u) > 0.5 or abs(y - v) > LINE_HEIGHT - 1e-9
    for tick in ("1", "10", "100"):
        assert f">{tick}</text>" in text


@given(st.floats(1e-4, 1e5), st.floats(1.01, 1e6))
@settings(max_examples=60, deadline=None)
def test_an_axis_of_any_range_has_ticks_that_do_not_overlap(low, factor):
    with rc_context(THEME):
        figure = open_figure(5.2, 3)
        log, narrow = figure.subplots(2, 1)
        for axes in (log, narrow):
            axes.plot([low, low * factor], [0, 1])
            axes.margins(x=0.12)
        plain_log(log)
        figure.draw_without_rendering()
        width = axes_size(log)[0]
        left, right = log.get_xlim()
        ends = [
            (math.log(x / left) / math.log(right / left) * width, LETTER * len(label.get_text()))
            for x, label in zip(log.get_xticks(), log.get_xticklabels(), strict=True)
            if left <= x <= right
        ]
        assert len(ends) >= 2
        assert all(b[0] - a[0] > (a[1] + b[1]) / 2 for a, b in pairwise(ends))
        two_ticks(narrow)
        assert 1 <= len(narrow.get_xticks()) <= 2


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
