"""Figures show data as it is."""

from html import escape

from graphdiff.models.explanation import Explanation

NAMES = ["$5 & $10", "$x^2$", "$", "$$", r"\$1 $2", r"a\$b", "100% _x_ {y} #", "$\\bad$", "[/red]"]


def test_kind_g_names_of_items_in_an_explanation(tmp_path):
    found = Explanation(1.0, {"bias": 1.0}, {}, [(n, 1.0) for n in range(len(NAMES))])
    found.plot(tmp_path / "why.svg", name=NAMES.__getitem__)
    page = (tmp_path / "why.svg").read_text()
    # Plain text is drawn as paths, with a comment that holds it; mathematics has no comment.
    for name in NAMES:
        assert f"<!-- item {escape(name, quote=False)} -->" in page
