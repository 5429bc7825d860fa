from graphdiff.experiments import tables


def test_a_mark_needs_both_tests(content):
    for one, p in (("lightgcn", 0.001), ("ld4mrec", 0.2)):
        content["statistics"]["metrics"]["recall@20"][one]["p_t_holm"] = p
        content["statistics"]["metrics"]["recall@20"][one]["p_wilcoxon_holm"] = 0.001
    marks = {row[0].text: row[2].mark for row in tables.accuracy(content).rows}
    assert marks == {"LightGCN": "*", "LD4MRec": ""}


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
