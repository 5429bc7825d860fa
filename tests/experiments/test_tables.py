import copy

from graphdiff.experiments import tables
from graphdiff.experiments.conclusion import conclusion


def test_a_mark_needs_both_tests(content):
    best, second = tables.ranked(content["models"])
    found = content["statistics"]["metrics"]["recall@20"]
    for p_best, p_second, expected in ((0.001, 0.2, ("*", "")), (0.2, 0.001, ("", "†"))):
        for one, p in ((best, p_best), (second, p_second)):
            found[one]["p_t_holm"], found[one]["p_wilcoxon_holm"] = p, 0.001
        marks = [row[2].mark for row in tables.accuracy(content).rows]
        assert marks == list(expected)
        assert tables.accuracy(content).rows[0][1].mark == ""  # recall@10 is not tested


def test_a_model_that_was_not_tested_against_the_best_other_one_has_no_mark(content):
    best, second = tables.ranked(content["models"])
    found = content["statistics"]["metrics"]["recall@20"]
    for one in (best, second):
        found[one]["p_t_holm"] = found[one]["p_wilcoxon_holm"] = 0.001
    untested = copy.deepcopy(content["models"][second])
    untested["mean"]["test"]["recall@20"] += 1e-6
    content["models"]["untested"] = untested
    assert tables.test_of(content, best, "recall@20") is None
    assert tables.mark(content, best, "recall@20") == ""
    assert tables.mark(content, second, "recall@20") == "†"
    assert "the difference was not tested" in conclusion(content)
    untested["mean"]["test"]["recall@20"] = 1.0
    assert tables.mark(content, second, "recall@20") == ""


def test_the_best_figure_of_a_column_is_marked(content):
    table = tables.accuracy(content)
    for column in range(1, 5):
        entries = [row[column] for row in table.rows]
        best = max(entries, key=lambda entry: float(entry.text))
        assert [entry.best for entry in entries] == [entry is best for entry in entries]


def test_models_without_features_keep_their_figures(content):
    rows = {row[0].text: [entry.text for entry in row[1:]] for row in tables.dropped(content).rows}
    assert rows["LightGCN"][0] == rows["LightGCN"][1]
    assert rows["LD4MRec"][0] != rows["LD4MRec"][1]
    # So does a preset of such a model.
    content["models"]["ease-recent"] = content["models"].pop("lightgcn")
    assert [entry.text for entry in tables.dropped(content).rows[-1]][1] != tables.NONE
    entries = [entry.text for row in tables.dropped(content).rows for entry in row]
    assert tables.NONE not in entries
    del content["dropped_features"]
    assert tables.dropped(content) is None
