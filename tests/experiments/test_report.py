import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphdiff.errors import ConfigError
from graphdiff.experiments.report import write_html, write_page
from graphdiff.experiments.result import ComparisonResult

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class Balance(HTMLParser):
    """Fails at a tag that is closed out of turn."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.images = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_self_contained_page(pages):
    page = (pages / "a.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert all(one["src"].startswith("data:image/svg+xml;base64,") for one in parser.images)
    titles = re.findall(r"<h2>([^<]+)</h2><img", page)
    assert titles == [
        "Accuracy", "Learning curves", "Accuracy against training time",
        "Accuracy by user activity", "Accuracy by item popularity",
        "Accuracy with features removed",
    ]  # fmt: skip
    for words in ("LD4MRec", "LightGCN", "Significance, recall@20", "By popularity of the item"):
        assert words in page
    assert "http" not in page
    assert "<script" not in page


def test_markdown_holds_the_figures(pages, content):
    page = (pages / "a.md").read_text()
    entry = content["models"]["ld4mrec"]
    mean, std = (entry[one]["test"]["recall@20"] for one in ("mean", "std"))
    assert f"± {std:.4f}" in page
    assert re.search(rf"\| (\*\*)?{mean:.4f}(\*\*)? ± {std:.4f}(\\\*)? \|", page)
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
    assert "| GenRec-V1 | – | – | – | – | 0.1165 / 0.0492 [4]† |" in page
    assert "| MDMNS | – | – | – | – | 0.1193 / 0.0525 [5]† |" in page
    assert "† By the authors' public code, this is the best test epoch; the code of" in page
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


COMPARISONS = [
    path
    for path in sorted(RESULTS.glob("*.json"))
    if isinstance(json.loads(path.read_text()).get("models"), dict)
]


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_committed_pages_are_those_of_their_json(path, tmp_path):
    write_page(json.loads(path.read_text()), tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == path.with_suffix(".md").read_text()
