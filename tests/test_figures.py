"""Figures show data as it is."""

from html import escape

from graphdiff.models.explanation import Contribution, Explanation

NAMES = ["$5 & $10", "$x^2$", "$", "$$", r"\$1 $2", r"a\$b", "100% _x_ {y} #", "$\\bad$", "[/red]"]


def test_kind_g_names_of_items_in_an_explanation(tmp_path):
    history = [Contribution(n, 1.0, {}) for n in range(len(NAMES))]
    found = Explanation(0, 1.0, {"remainder": 1.0}, {"bias": 1.0}, {}, history)
    found.plot(tmp_path / "why.svg", name=NAMES.__getitem__)
    page = (tmp_path / "why.svg").read_text()
    # Plain text is drawn as paths, with a comment that holds it; mathematics has no comment.
    for name in NAMES:
        assert f"<!-- {escape(name, quote=False)} -->" in page
