import copy
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphdiff.errors import ConfigError
from graphdiff.experiments.conclusion import about_data, conclusion
from graphdiff.experiments.report import write_html, write_page
from graphdiff.experiments.result import ComparisonResult
from graphdiff.experiments.tables import ranked

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class Balance(HTMLParser):
    """Fails at a tag that is closed out of turn."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []
        self.drawings = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "svg":
            self.drawings.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_self_contained_page(pages):
    page = (pages / "a.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    titles = re.findall(r"<h2>([^<]+)</h2>\n<figure><div class=\"panels\"><svg", page)
    assert titles == [
        "Accuracy", "Gain of each user, " + gain_of(page), "Accuracy against time",
        "Learning curves", "Accuracy by user activity", "Accuracy by item popularity",
        "Beyond accuracy", "Accuracy with features removed",
    ]  # fmt: skip
    drawn = [one["aria-label"].partition(".")[0] for one in parser.drawings]
    assert list(dict.fromkeys(drawn)) == titles
    # A phone shows each panel as a whole; text is at least 7 points there.
    assert all(float(one["width"].removesuffix("pt")) < 268 * 10 / 6.5 for one in parser.drawings)
    assert "#010203" not in page  # text has the colour of the page
    assert "<text" in page
    for words in ("LD4MRec", "LightGCN", "Significance, recall@20", "By popularity of the item"):
        assert words in page
    assert "http" not in page
    assert "<script" not in page


def gain_of(page):
    return re.search(r"Gain of each user, (\w+ against \w+)<", page)[1]


def test_models_with_odd_names_are_drawn_as_they_are(content, tmp_path):
    names = ["$x^2$ & <b>", "100% _y_ $\\bad$"]
    for entry, name in zip(content["models"].values(), names, strict=True):
        entry["name"] = name
    write_html(content, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    drawn = unescape("".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)))
    for name in names:
        assert name in drawn


def test_ranks_over_datasets(content, tmp_path):
    other = copy.deepcopy(content) | {"dataset": "elsewhere", "fingerprint": "other"}
    best, second = ranked(content["models"])
    entries = other["models"]
    entries[best], entries[second] = entries[second], entries[best]
    write_html(content, tmp_path / "a.html", [other])
    page = (tmp_path / "a.html").read_text()
    drawn = re.search(r"<h2>Ranks over datasets</h2>\n(<figure>.*?</figure>)", page, re.DOTALL)[1]
    assert "elsewhere" in drawn
    assert drawn.count("mean 1.5") == 2
    del other["models"][best]
    write_html(content, tmp_path / "a.html", [other])
    assert "Ranks over datasets" not in (tmp_path / "a.html").read_text()


def test_a_conclusion_states_what_the_tests_allow(content):
    best, second = ranked(content["models"])
    found = content["statistics"]["metrics"]["recall@20"]
    one = found[best]
    label = content["models"][best]["name"]
    for p, words in ((0.5, "may be chance (p = 0.500)"), (1e-9, "is significant (p < 0.001)")):
        one["p_t_holm"] = one["p_wilcoxon_holm"] = p
        text = conclusion(content)
        assert text.startswith(f"{label} has the highest test recall@20 on synthetic, ")
        assert words in text
    content["models"]["third"] = copy.deepcopy(content["models"][second])
    content["models"]["third"]["mean"]["test"]["recall@20"] = 0.0
    found["third"] = {**found[second], "p_t_holm": 0.01, "p_wilcoxon_holm": 0.01}
    found[second]["p_t_holm"] = 0.2
    assert conclusion(content).endswith("and 1 of the 2 other models are significantly worse.")
    content["statistics"] = {}
    assert "not tested" in conclusion(content)
    content["models"] = {best: content["models"][best]}
    assert conclusion(content).startswith(f"{label} has a test recall@20 of ")


def test_the_data_of_a_comparison_in_a_sentence(content):
    text = about_data(content)
    pairs = sum(one["test_pairs"] for one in content["groups"]["items"])
    assert f"{pairs:,} held-out interactions of 80 users with 60 items" in text
    assert "2 seeds per model" in text
    del content["groups"]
    assert about_data(content) == ""


def test_markdown_holds_the_figures(pages, content):
    page = (pages / "a.md").read_text()
    entry = content["models"]["ld4mrec"]
    mean, std = (entry[one]["test"]["recall@20"] for one in ("mean", "std"))
    assert f"± {std:.4f}" in page
    assert re.search(rf"\| (\*\*)?{mean:.4f}(\*\*)? ± {std:.4f}(\\\*|†)? \|", page)
    for title in ("Significance, ndcg@20", "By activity", "With features removed", "Cost"):
        assert f"\n## {title}" in page
    widths = [line.count(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert widths.count(widths[0]) >= 4


def test_latex_is_a_booktabs_table_with_the_best_in_bold(pages, content):
    page = (pages / "a.tex").read_text()
    best = max(one["mean"]["test"]["ndcg@20"] for one in content["models"].values())
    assert rf"\textbf{{{best:.4f}}}" in page
    for part in page.split(r"\begin{table*}")[1:]:
        columns = len(re.search(r"\\begin{tabular}{(\w+)}", part)[1])
        rows = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 3
        assert all(line.count(" & ") == columns - 1 for line in rows)
        assert part.index(r"\toprule") < part.index(r"\midrule") < part.index(r"\bottomrule")
    assert not re.search(r"(?<!\\)[%#_&](?!.*\\\\)", page.split("\n", 1)[1])


def test_every_page_states_what_was_masked(content, tmp_path):
    content["protocol"]["mask_validation"] = True
    for suffix in ("html", "md", "tex"):
        path = tmp_path / f"a.{suffix}"
        write_page(content, path)
        text = path.read_text()
        assert "training and validation items masked" in text
        assert "training items masked" not in text
    assert "masked}" in (tmp_path / "a.tex").read_text()  # in the caption


def test_another_suffix_is_refused(content, tmp_path):
    with pytest.raises(ConfigError, match=r"a name that ends in \.html, \.md, \.tex"):
        write_page(content, tmp_path / "a.pdf")


def test_results_of_earlier_versions_are_rendered(tmp_path):
    source = RESULTS / "tiktok.json"
    before = source.read_bytes()
    result = ComparisonResult.read(source)
    result.write(tmp_path / "t.md")
    result.write(tmp_path / "t.tex")
    page = (tmp_path / "t.md").read_text()
    assert "| 0.0653 / 0.0282 [1] |" in page
    assert "| MDMNS | – | – | – | – | 0.1193 / 0.0525 [5]‡ |" in page
    assert "‡ By the authors' public code, this is the best test epoch; the code of" in page
    assert "the code of MMSSL, MMHCL selects the epoch by validation" in page
    assert "arXiv 2406.11781" in page
    assert r"0.0653 / 0.0282 {\scriptsize [1]} &" in (tmp_path / "t.tex").read_text()
    assert source.read_bytes() == before
    without_groups = json.loads(before)
    without_groups.pop("groups", None)
    for entry in without_groups["models"].values():
        for part in (entry["mean"], *entry["seeds"]):
            part.pop("groups", None)
    write_html(without_groups, tmp_path / "t.html")
    assert "Accuracy by user activity" not in (tmp_path / "t.html").read_text()


def test_rendering_again_gives_the_same_pages(pages, tmp_path):
    result = ComparisonResult.read(pages / "a.json")
    for suffix in ("html", "md", "tex"):
        result.write(tmp_path / f"b.{suffix}")
        assert (tmp_path / f"b.{suffix}").read_text() == (pages / f"a.{suffix}").read_text()


def is_comparison(path):
    models = json.loads(path.read_text()).get("models")
    return isinstance(models, dict) and all("mean" in one for one in models.values())


COMPARISONS = list(filter(is_comparison, sorted(RESULTS.glob("*.json"))))


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_committed_pages_are_those_of_their_json(path, tmp_path):
    write_page(json.loads(path.read_text()), tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == path.with_suffix(".md").read_text()
