from graphdiff.experiments import tables


def test_a_mark_needs_both_tests(content):
    best, second = tables.ranked(content["models"])
    found = content["statistics"]["metrics"]["recall@20"]
    for p_best, p_second, expected in ((0.001, 0.2, ("*", "")), (0.2, 0.001, ("", "†"))):
        for one, p in ((best, p_best), (second, p_second)):
            found[one]["p_t_holm"], found[one]["p_wilcoxon_holm"] = p, 0.001
        marks = [row[2].mark for row in tables.accuracy(content).rows]
        assert marks == list(expected)
        assert tables.accuracy(content).rows[0][1].mark == ""  # recall@10 is not tested


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
    del content["dropped_features"]
    assert tables.dropped(content) is None
