"""Encoders that read padded rows; tests/export/test_directory.py tests their graphs."""

import torch

from mvae.export.rule import posterior_rule
from mvae.export.sentences import with_padded_sentences
from mvae.runs.build import build
from mvae.runs.config import Config

PARTS = {"en": {"kind": "sentence", "classes": 12, "length": 6}, "topic": {"kind": "categorical", "classes": 3}}


def test_separate_sentence_encoders_are_padded_too() -> None:
    """A TELBO has a second encoder of each modality; the original model is unchanged."""
    model = build(
        Config.from_dict({"data": {"source": "x"}, "model": {"name": "telbo", "latents": 3}, "modalities": PARTS})
    ).eval()
    padded = with_padded_sentences(model)
    x = torch.tensor([[3, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        rules = posterior_rule(model).alone, posterior_rule(padded).alone
        alone = [None if rule is None or rule.encode is None else rule.encode("en", x).shift for rule in rules]
        torch.testing.assert_close(padded.expert("en", x).shift, model.expert("en", x).shift)
        assert alone[0] is not None
        torch.testing.assert_close(*alone)
    kinds = [{type(part).__name__ for part in of.modules()} for of in (model, padded)]
    assert ["LSTMEncoder" in kind for kind in kinds] == [True, False]
