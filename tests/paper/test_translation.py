"""Table 4 and the tables of sentences, end to end on a tiny corpus; the published curve."""

from pathlib import Path

import pytest
from mvae.paper.show_translation import show_examples, show_levels

from mvae.errors import MissingDependencyError, SettingsError
from mvae.files import read_json
from mvae.paper import ITEMS, translation
from mvae.paper.harness import Places
from mvae.paper.published import published
from mvae.paper.results import read_rows
from tests import corpus


def test_the_published_curve_is_the_papers() -> None:
    printed = [published("table4", str(level), "value") for level in translation.LEVELS]
    assert printed == [-558.88, -494.76, -483.23, -478.75, -478.04, -478.12]
    assert [published("table4", str(level), "stderr") for level in translation.LEVELS] == [
        *(3.56, 4.18, 5.81, 3.00, 4.95, 3.02)
    ]
    assert {"table4", *translation.EXAMPLES} <= ITEMS.keys()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    directory = tmp_path_factory.mktemp("reproduce")
    corpus.write(directory / "data", pairs=60, other=True)
    return Places(directory / "results", directory / "runs", directory / "data", "cpu", ())


def test_table4_is_recorded_once_with_both_domains_and_both_baselines(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    rows = translation.table4(levels=(1.0,), budget="smoke", places=places)
    by = {row["metric"]: row for row in rows}
    joint, en, vi = (by[f"log p({name})"]["value"] for name in ("en,vi", "en", "vi"))
    assert joint < min(en, vi) < 0
    assert by["log p(en,vi)"]["paper"] == -478.12
    assert by["log p(en)"]["paper"] is None
    assert by["perplexity en"]["value"] > 1
    assert {"log p(en,vi) tst2012", "gap en->vi", "active units", "BLEU vi->en neighbour"} <= by.keys()
    assert by["chrF en->vi copy"]["value"] > 0  # numbers and full stops
    assert read_rows(places.results / "table4.json") == rows
    assert translation.table4(levels=(1.0,), budget="smoke", places=places) == rows  # nothing is made twice
    show_levels(translation.summary(rows))
    assert "-478.12" in capsys.readouterr().out
    run = next(places.runs.iterdir())
    assert read_json(run / "run.json")["dataset"] == "translation"


def test_sentences_have_their_gold_translations_beside(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    found = translation.examples("table5", budget="smoke", places=places, n=4)
    assert [row["type"] for row in found[:3]] == ["x_en ~ p_data", "x_vi ~ p(x_vi | z(x_en))", "gold x_vi"]
    for source, _, gold in zip(found[:6:3], found[1:6:3], found[2:6:3], strict=True):
        assert " ".join(corpus.VI.get(word, word) for word in source["sentence"].split()) == gold["sentence"]
    assert found[6]["type"] == "x_vi ~ p_data"
    assert len(translation.examples("table12", budget="smoke", places=places, n=4)) == 12
    joint = translation.examples("table11", budget="smoke", places=places, n=2)
    assert [row["type"][:4] for row in joint] == ["x_en", "x_vi"] * 2
    show_examples("table5", found)
    assert found[2]["sentence"] in capsys.readouterr().out


def test_what_is_not_there_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch) -> None:
    places = Places(tmp_path / "results", tmp_path / "runs", tmp_path)
    with pytest.raises(SettingsError, match="no budget 'all'"):
        translation.examples("table5", budget="all", places=places)
    with pytest.raises(SettingsError, match="a level is a share of pairs above 0 and at most 1, not 2"):
        translation.table4(levels=(2.0,), places=places)
    with pytest.raises(SettingsError, match="no table 'table4'"):
        translation.examples("table4", places=places)
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(MissingDependencyError):
        translation.table4(places=places)
    assert not (tmp_path / "runs").exists()
