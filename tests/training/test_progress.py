"""Progress: a bar on a terminal, plain lines elsewhere."""

import io
import re
import sys

import pytest
import torch

from mvae import likelihoods
from mvae.data.table import Table
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.training import progress
from mvae.training.callbacks import Plan
from mvae.training.fit import fit
from mvae.training.progress import Bar, Lines, Reporter, reporter_for


def train(*callbacks: Reporter, epochs: int = 2) -> None:
    torch.manual_seed(0)
    model = MVAE(
        {
            "image": Modality(mlp(4, 4, [6]), mlp(2, 4, [6]), likelihoods.Bernoulli()),
            "label": Modality(LabelEncoder(3, 4, 6), mlp(2, 3, [6]), likelihoods.Categorical()),
        },
        2,
        cross_from=(),
    )
    table = Table({"image": torch.rand(30, 4), "label": torch.arange(30) % 3})
    fit(model, table, validation=table, epochs=epochs, anneal_epochs=epochs, batch_size=10, callbacks=callbacks)


NUMBER = r"-?\d+\.\d\d"
LINE = (
    rf"epoch \d/\d  loss {NUMBER}  image {NUMBER}  label {NUMBER}  KL {NUMBER}  beta {NUMBER}  validation {NUMBER}  "
    rf"coupling {NUMBER}  \d+ examples/s  \d+\.\d min left"
)


def test_plain_lines_show_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    train(Lines())
    out, err = capsys.readouterr()
    first, *others = out.splitlines()
    assert re.fullmatch(LINE, first)
    assert first.startswith("epoch 1/2 ")
    assert "beta 0.50" in first
    assert re.fullmatch(LINE, others[-1])  # epochs shorter than a second may be left out, but never the last
    assert others[-1].startswith("epoch 2/2 ")
    assert others[-1].endswith(" 0.0 min left")
    assert "\x1b" not in out + err
    assert err == ""


def test_plain_lines_appear_within_a_long_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    lines = Lines()
    lines.every = 0
    train(lines)
    out = capsys.readouterr().out.splitlines()
    shares = [f"epoch 1/2 ({n}%)" for n in (33, 67, 100)]
    assert [re.split(" {2}loss ", line)[0] for line in out[:4]] == [*shares, "epoch 1/2"]
    assert "validation" in out[3] or "KL" in out[3]
    assert re.fullmatch(rf"epoch 1/2 \(33%\)  loss .*  beta {NUMBER}  \d+ examples/s  \d+\.\d min left", out[0])


def test_without_callbacks_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal for rich, wide enough for everything."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.usefixtures("_terminal")
def test_bar_shows_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    train(Bar())
    out, err = capsys.readouterr()
    last = without_colours(err).replace("\r", "\n").strip().splitlines()[-1]
    pattern = (
        rf"epoch 2/2 ━+ loss {NUMBER}  image {NUMBER}  label {NUMBER}  KL {NUMBER}  β 1.00  validation {NUMBER} "
        r"\d+ examples/s +0:00:00"
    )
    assert re.search(pattern, last), last
    assert out == ""


@pytest.mark.usefixtures("_terminal")
def test_bar_shows_the_current_beta(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.on_start(Plan(epochs=4, steps_per_epoch=10, batch_size=100, steps_done=25))
    bar.on_step(2, 26, {"loss": 1.0, "beta": 0.65})
    bar.on_end()
    err = without_colours(capsys.readouterr().err)
    assert "epoch 3/4" in err
    assert "β 0.65" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "err", "kind"),
    [(Terminal(), Terminal(), Bar), (io.StringIO(), Terminal(), Lines), (Terminal(), io.StringIO(), Lines)],
)
def test_bar_is_for_terminals_only(
    out: io.StringIO, err: io.StringIO, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert type(reporter_for()) is kind


def test_updates_come_at_most_at_the_set_rate() -> None:
    reporter = Reporter()
    assert not reporter.due()
    reporter.every = 0.0
    assert reporter.due()
    assert reporter.due()


def test_long_work_prints_a_line_per_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 60.0, 60.0, 90.0, 121.0, 121.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.shown("scoring") as done:
        for share in (0.1, 0.25, 0.5, 0.75):
            done(share)
    assert capsys.readouterr().err.splitlines() == ["scoring … 25%", "scoring … 75%"]
