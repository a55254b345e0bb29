"""Table 4 and the tables of sentences, end to end on a tiny corpus; the published curve."""

from pathlib import Path

import pytest

from mvae.errors import MissingDependencyError
from mvae.files import read_json
from mvae.paper.harness import reproduce
from mvae.paper.item import Options, Paths
from mvae.paper.items import ITEMS
from mvae.paper.published import published
from mvae.paper.results import read_rows
from mvae.paper.translation import ALIGNED_FRACTIONS, TABLE4
from tests import corpus
from tests.command import mvae

SMOKE = Options(budget="smoke")


def test_published_curve_matches_paper() -> None:
    printed = [published("table4", str(level), "value") for level in ALIGNED_FRACTIONS]
    assert printed == [-558.88, -494.76, -483.23, -478.75, -478.04, -478.12]
    assert [published("table4", str(level), "stderr") for level in ALIGNED_FRACTIONS] == [
        *(3.56, 4.18, 5.81, 3.00, 4.95, 3.02)
    ]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    directory = tmp_path_factory.mktemp("reproduce")
    corpus.write(directory / "data", pairs=60, other=True)
    return Paths(directory / "results", directory / "runs", directory / "data", "cpu", ())


def test_table4_is_recorded_once_with_both_domains_and_both_baselines(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sacrebleu")
    options = Options(levels=(1.0,), budget="smoke")
    rows = reproduce(TABLE4, options, paths)
    by = {row["metric"]: row for row in rows}
    joint, en, vi = (by[f"log p({name})"]["value"] for name in ("en,vi", "en", "vi"))
    assert joint < min(en, vi) < 0
    assert by["log p(en,vi)"]["paper"] == -478.12
    assert by["log p(en)"]["paper"] is None
    assert by["perplexity en"]["value"] > 1
    assert {"log p(en,vi) tst2012", "gap en->vi", "active units", "BLEU vi->en neighbour"} <= by.keys()
    assert by["chrF en->vi copy"]["value"] > 0  # numbers and full stops are the same in both languages
    assert read_rows(paths.results / "table4.json") == rows
    assert reproduce(TABLE4, options, paths) == rows  # nothing is made twice
    TABLE4.show("table4", rows)
    assert "-478.12" in capsys.readouterr().out
    run = next(paths.runs.iterdir())
    assert read_json(run / "run.json")["config"]["data"]["source"] == "translation"


def test_sentences_have_gold_translations(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    found = {name: reproduce(ITEMS[name], SMOKE, paths) for name in ("table5", "table11", "table12", "table13")}
    both = found["table5"]
    assert [row["type"] for row in both[:3]] == ["x_en ~ p_data", "x_vi ~ p(x_vi | z(x_en))", "gold x_vi"]
    for source, _, gold in zip(both[:9:3], both[1:9:3], both[2:9:3], strict=True):
        assert " ".join(corpus.VI.get(str(word), str(word)) for word in source["sentence"].split()) == gold["sentence"]
    assert both[9]["type"] == "x_vi ~ p_data"
    assert [len(found[name]) for name in ("table5", "table11", "table12", "table13")] == [18, 12, 18, 18]
    assert [row["type"][:4] for row in found["table11"]] == ["x_en", "x_vi"] * 6
    ITEMS["table5"].show("table5", both)
    assert both[2]["sentence"] in capsys.readouterr().out


def test_missing_package_is_refused_before_training(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(MissingDependencyError, match=r"need sacrebleu: pip install 'mvae\[translation\]'"):
        reproduce(TABLE4, SMOKE, Paths(tmp_path / "results", tmp_path / "runs", tmp_path))
    assert not (tmp_path / "runs").exists()


def test_paper_score_of_translation_run_gives_table4(paths: Paths, tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    reproduce(ITEMS["table11"], SMOKE, paths)
    (run,) = paths.runs.iterdir()
    options = "--data-dir", paths.data_dir, "--device", "cpu", "--rows", 4, "--samples", 20, "--record", tmp_path
    text, printed_json = mvae("paper-score", run, *options), mvae("paper-score", run, *options, "--json")
    rows = {row["metric"]: row for row in read_rows(tmp_path / "table4.json")}
    assert rows["chrF en->vi mbr"]["value"] == printed_json.json()["chrF en->vi mbr"]
    assert (rows["log p(en,vi)"]["budget"], rows["log p(en,vi)"]["n"]) == ("3 of 100 epochs", 4)
    assert {"perplexity vi", "gap vi->en", "BLEU vi->en neighbour"} <= rows.keys()
    assert "chrF en->vi mbr" in text.out
