"""Content can be read one modality at a time."""

import pytest

from graphdiff.errors import ConfigError
from graphdiff.schema import modalities, similar, validate
from graphdiff.transforms import KeepModalities, ModalityGraph


def test_the_others_are_gone_with_their_masks_and_graphs(multimodal_data):
    data = ModalityGraph(3)(multimodal_data)
    kept = KeepModalities(["text"])(data)
    validate(kept)
    assert modalities(kept) == ["text"]
    assert "has_image" not in kept["item"]
    assert similar("image") not in kept.edge_types
    assert similar("text") in kept.edge_types
    assert modalities(data) == ["image", "text"]
    assert modalities(KeepModalities([])(data)) == []


def test_an_unknown_modality_is_refused(multimodal_data):
    with pytest.raises(ConfigError, match="no modality 'audio'; it has image, text"):
        KeepModalities(["audio"])(multimodal_data)
