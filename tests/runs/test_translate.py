"""A run of sentences, from training to translations, on a tiny corpus."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from mvae import Table
from mvae.cli.main import cli
from mvae.data.vocabulary import UNKNOWN
from mvae.errors import QueryError, RunError, SettingsError
from mvae.evaluation.decoding import consensus
from mvae.files import read_json
from mvae.runs import run as runs
from mvae.runs import sample as sampling
from mvae.runs.build import build
from mvae.runs.run import Run
from mvae.runs.source import load
from mvae.runs.translate import METHODS, SAMPLES, SPREAD, TEMPERATURE, language, translate, translate_rows
from mvae.training.checkpoint import CHECKPOINT, SETTINGS
from tests import corpus
from tests.declared import changed


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    corpus.write(directory, other=True)
    return directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "translation"
    config = changed("translation", epochs=2, anneal_epochs=0, learning_rate=3e-3)
    return runs.train(config, directory, data_dir=data_dir, device="cpu", callbacks=[])[0]


def test_translation_decodes_the_sources_posterior(trained: Run) -> None:
    """The first greedy translation equals the decoder's output for the posterior mean."""
    (found,) = translate(trained, ["I sees rice ."], "vi", n=3)
    assert (found.source, len(found.translations), found.unknown) == ("I sees rice .", 3, [])
    row = trained.data.codecs["en"].parse("I sees rice .")[None]
    mean = trained.model.posterior({"en": row}).mean
    expected = language(trained, "vi").generate(mean, mean=True)[0]
    assert found.translations[0] == trained.data.codecs["vi"].format(expected)


@pytest.mark.parametrize("method", METHODS)
def test_texts_are_translated_independently(method: str, trained: Run) -> None:
    x = torch.as_tensor(trained.data.test.columns["en"])
    together = translate_rows(trained, x, "en", "vi", method=method, n=2, width=3)
    assert together.shape == (12, 2, 71)
    assert (together[..., -1] == 0).all()
    assert (together != UNKNOWN).all()
    if method in ("greedy", "beam"):  # without sampling, a text alone is translated as among others
        alone = translate_rows(trained, x[5:6], "en", "vi", method=method, n=1, width=3)
        assert torch.equal(alone[0, 0], together[5, 0])
    if method == "beam":
        z = trained.model.posterior({"en": x}).mean
        best, second = (language(trained, "vi").log_prob(together[:, i], z) for i in range(2))
        assert (best >= second - 1e-4).all()


def test_samples_depend_on_the_seed(trained: Run) -> None:
    one, same, other = (translate(trained, ["I"], "vi", method="sample", n=4, seed=seed) for seed in (0, 0, 1))
    assert one == same != other


def test_mbr_selects_the_consensus_of_samples(trained: Run) -> None:
    (found,) = translate(trained, ["I sees rice ."], "vi", method="mbr", n=2, seed=3)
    q = trained.model.posterior({"en": trained.data.codecs["en"].parse("I sees rice .")[None]})
    generator = torch.Generator().manual_seed(3)
    z = q.rsample(SPREAD * torch.randn(SAMPLES, *q.mean.shape, generator=generator))
    rows = language(trained, "vi").generate(z, generator=generator, never=UNKNOWN, temperature=TEMPERATURE)
    drawn = [trained.data.codecs["vi"].format(row) for row in rows[:, 0]]
    assert found.translations == [drawn[place] for place in consensus(drawn)[:2]]
    assert len(set(found.translations)) == 2
    (many,) = translate(trained, ["I"], "vi", method="mbr", n=SAMPLES + 3)
    assert len(many.translations) == SAMPLES + 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"to": "fr"}, "no modality 'fr' in this model; it has en, vi"),
        ({"to": "vi", "source": "vi"}, "the texts are in vi already"),
        ({"to": "vi", "n": 0}, "n must be at least 1"),
        ({"to": "vi", "method": "best"}, "no method 'best'; there are greedy, beam, sample, mbr"),
        ({"to": "vi", "texts": ["I", " "]}, "text 2 (' '): en is a sentence"),
        ({"to": "vi", "texts": "the cat"}, "texts must be a list of text, such as ['a sentence'], not 'the cat'"),
        ({"to": "vi", "texts": ["I", 5]}, "text 2 must be text, not 5"),
        ({"to": "vi", "texts": 5}, "texts must be a list of text, such as ['a sentence'], not 5"),
        ({"to": "vi", "n": "2"}, "n of translate must be a whole number, not '2'"),
        ({"to": "vi", "width": 2.5}, "width of translate must be a whole number, not 2.5"),
        ({"to": "vi", "width": 0}, "the beam's width must be at least 1, not 0"),
        ({"to": "vi", "seed": -1}, "seed of translate must be at least 0"),
        ({"to": 5}, "to of translate must be text, not 5"),
    ],
)
def test_invalid_translation_is_refused(call: dict[str, Any], message: str, trained: Run) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        translate(trained, **{"texts": ["I"], **call})
    assert translate(trained, iter([]), "vi") == []
    with pytest.raises(QueryError, match="the beam's width must be at least 1, not 0"):
        translate_rows(trained, torch.as_tensor(trained.data.test.columns["en"]), "en", "vi", width=0)


def test_run_without_sentences_is_refused(tmp_path: Path) -> None:
    config = changed("digits")
    digits = Run(tmp_path, config, build(config), load(config), {})
    with pytest.raises(QueryError, match="label is not a language"):
        translate(digits, ["5"], "label")


def test_samples_are_sentences(trained: Run) -> None:
    given = sampling.parse_given(trained, ("en=I sees rice .",))
    picture, texts = sampling.sample(trained, given, 3, 0, Path("none.png"))
    assert picture is None
    assert texts.keys() == {"vi"}
    assert len(texts["vi"]) == 3
    assert sampling.each_shown(trained, 3, 0, Path("none.png")) is None
    with pytest.raises(QueryError, match="en is a sentence"):
        sampling.parse_given(trained, ("en=",))


def test_files_with_another_vocabulary_are_refused(trained: Run, tmp_path: Path) -> None:
    corpus.write(tmp_path, seed=1)
    with pytest.raises(RunError, match=r"trained with another vocabulary .* point --data-dir at the files"):
        runs.open_run(trained.directory, data_dir=tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained.directory, copy)
    (copy / CHECKPOINT).unlink()
    with pytest.raises(RunError, match="another vocabulary"):
        runs.train(trained.config, copy, resume=True, data_dir=tmp_path, callbacks=[])
    assert read_json(copy / SETTINGS)["coding"] == trained.data.vocabulary_id


def test_missing_language_has_no_influence(trained: Run) -> None:
    """The loss is the same, whatever the cells of the missing language contain."""
    test = trained.data.test.take(slice(0, 4))
    columns = {name: torch.as_tensor(column).clone() for name, column in test.columns.items()}
    has = torch.tensor([True, False, True, False])
    noise = torch.randn(4, 4, 100)
    losses = []
    for filling in (0, 7):
        columns["vi"][~has] = filling
        table = Table(columns, {"vi": has})
        with torch.no_grad():
            terms = trained.model.terms(table.presence(trained.model.names))
            losses.append(trained.model(table, terms, noise=torch.cat([noise] * 2)[: len(terms.names)]).loss)
    assert torch.equal(*losses)


def invoke(*words: str, text: str | None = None) -> Any:
    return CliRunner().invoke(cli, [*words], input=text, catch_exceptions=False)


def test_command_translates_and_reports_unknown_words(trained: Run, data_dir: Path) -> None:
    words = ("translate", str(trained.directory), "--to", "vi", "--data-dir", str(data_dir))
    one = invoke(*words, "--n", "2", "I likes zebras .")
    lines = [line.split("\t") for line in one.stdout.splitlines()]
    assert [line[0] for line in lines] == ["I likes zebras ."] * 2
    assert all(len(line) == 2 for line in lines)
    assert one.stderr == "unknown words, read as <unk>: zebras\n"
    two = invoke(*words, "--json", "--method", "beam", text="I likes tea .\n\nTom buys rice .\n")
    found = json.loads(two.stdout)["translations"]
    assert [translation["source"] for translation in found] == ["I likes tea .", "", "Tom buys rice ."]
    assert found[1] == {"source": "", "translations": [""], "unknown": []}
    assert invoke(*words, text="").stdout == ""
    sampled = invoke("sample", str(trained.directory), "--given", "en=I", "--n", "3", "--data-dir", str(data_dir))
    assert all(line.startswith("vi:") for line in sampled.stdout.splitlines())
    assert sampled.stderr == ""
    sampled = invoke("sample", str(trained.directory), "--given", "en=the zebra .", "--data-dir", str(data_dir))
    assert sampled.stderr == "unknown words, read as <unk>: the, zebra\n"


@pytest.mark.parametrize("n", [1, 2])
def test_empty_line_gives_an_empty_line(n: int, trained: Run, data_dir: Path) -> None:
    words = ("translate", str(trained.directory), "--to", "vi", "--data-dir", str(data_dir), "--n", str(n))
    found = invoke(*words, text="\nI likes tea .\n  \n&nbsp;\nTom\tbuys rice .").stdout.split("\n")
    sources = ["I likes tea .", "Tom\tbuys rice ."]
    expected = []
    for translation in translate(trained, sources, "vi", n=n):
        source = translation.source.replace("\t", " ")
        expected.append([text if n == 1 else f"{source}\t{text}" for text in translation.translations])
    assert found == ["", *expected[0], "", "", *expected[1], ""]
    with pytest.raises(QueryError, match="text 1"):  # an argument must not be empty
        translate(trained, [""], "vi")


def test_subwords_have_their_own_vocabulary_and_read_new_words(tmp_path: Path, data_dir: Path) -> None:
    pytest.importorskip("sentencepiece")
    options = ["--set", "data.options={vocabulary=60,subwords=true}", "--set", "modalities.en.classes=60"]
    options += [
        "--set",
        "modalities.vi.classes=60",
        "--data-dir",
        str(data_dir),
        "--device",
        "cpu",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    train = ["train", "translation", "--epochs", "1", *options, "--json"]
    assert CliRunner().invoke(cli, train, catch_exceptions=False).exit_code == 0
    run = runs.open_run(tmp_path / "run", data_dir=data_dir, device="cpu")
    assert run.config.data.options == {"vocabulary": 60, "subwords": True}
    assert language(run, "vi").decoder.vocabulary == 60
    (found,) = translate(run, ["Tomcats likes teas ."], "vi", method="beam")
    assert found.unknown == []
    assert "▁" not in found.translations[0]
    few = changed("translation", epochs=1, data={"options": {"vocabulary": 20}})
    words = runs.train(few, tmp_path / "words", data_dir=data_dir, callbacks=[])[0]
    (found,) = translate(words, ["Tomcats likes teas ."], "vi")
    assert found.unknown == ["Tomcats", "teas"]
    other = changed("translation", epochs=1, data={"options": {"vocabulary": 30}})
    with pytest.raises(RunError, match=r"with other settings: data\.options\.vocabulary was 20, now 30"):
        runs.train(other, tmp_path / "words", resume=True, data_dir=data_dir, callbacks=[])


def test_too_small_vocabulary_is_refused(tmp_path: Path, data_dir: Path) -> None:
    tiny = changed("translation", data={"options": {"vocabulary": 1}})
    with pytest.raises(SettingsError, match="a vocabulary needs more than 2 numbers, not 1"):
        runs.train(tiny, tmp_path / "run", data_dir=data_dir, callbacks=[])
    assert not (tmp_path / "run").exists()
