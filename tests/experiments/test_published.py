import yaml

from graphdiff.experiments.published import PUBLISHED, published


def test_published_figures_name_their_sources(content):
    listed = yaml.safe_load(PUBLISHED.read_text())
    sources = listed.pop("sources")
    for dataset in listed.values():
        for one in dataset["figures"]:
            assert one["source"] in sources
            assert 0 < one["ndcg@20"] < one["recall@20"] < 1
    assert not published(content).figures
    content["dataset"] = "ml-1m-clean"
    assert published(content).figures["diffrec"]["recall@20"] == 0.1787
    content["dataset"] = "ML-1M-Clean"
    assert published(content).figures["diffrec"]["recall@20"] == 0.1787
    content["protocol"]["split"] = "ColdItems(share=0.1, seed=0)"
    assert not published(content).figures
