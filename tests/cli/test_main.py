"""The commands as a user runs them: their output, their exit codes, and one line for every mistake."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mvae.evaluation import likelihood as estimators
from mvae.files import load_state, read_json
from mvae.training.checkpoint import CHECKPOINT, METRICS, SETTINGS
from tests.command import Result, assert_refused, mvae


@pytest.fixture(scope="module", autouse=True)
def _big_chunks() -> Iterator[None]:
    """Training ends with half a million samples; in larger chunks the run-time checks of shapes cost less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(estimators.CHUNK, "cpu", 20_000)
        yield


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run of two epochs, and what was printed."""
    directory = tmp_path_factory.mktemp("cli") / "digits"
    return directory, mvae("train", "digits", "--epochs", 2, "--run-dir", directory, "--device", "cpu")


@pytest.fixture(scope="module")
def run(training: tuple[Path, Result]) -> Path:
    return training[0]


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


# -- train ---------------------------------------------------------------------------------------------------------


def test_training_ends_with_likelihoods_a_picture_and_the_next_command(training: tuple[Path, Result]) -> None:
    directory, result = training
    assert result.code == 0
    assert result.out.startswith("epoch 1/2 ")
    for part in ("log p(x1) ", "log p(x1,x2) ", "log p(x1|x2) ", "x1 = image, x2 = label", "accuracy image->label"):
        assert part in result.out
    assert f"picture: {directory / 'samples.png'}" in result.out
    assert result.out.endswith(f"try next: mvae sample {directory} --given label=5 --n 64\n")
    *warnings, last = result.err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    assert last == "scoring test rows …"
    with Image.open(directory / "samples.png") as picture:
        assert picture.size == (12 * 58 + 2, 10 * 58 + 2)
    written = {file.name for file in directory.iterdir() if not file.name.startswith("events.")}  # TensorBoard's
    assert written == {SETTINGS, METRICS, CHECKPOINT, "samples.png"}


def read_last(directory: Path) -> dict[str, Any]:
    return json.loads((directory / METRICS).read_text().splitlines()[-1])


def assert_same_weights(one: Path, other: Path) -> None:
    tensors, others = load_state(one / CHECKPOINT)[0], load_state(other / CHECKPOINT)[0]
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def stop_once_training(number: signal.Signals) -> threading.Thread:
    """Send the signal as soon as the training loop handles it."""
    before = signal.getsignal(number)
    if before == signal.SIG_IGN:
        pytest.skip("the signal is ignored, as in a shell's background jobs")

    def wait_and_send() -> None:
        while signal.getsignal(number) in (before, signal.default_int_handler):  # the program sets this one at once
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_training_can_be_queried_and_resumes_exactly(number: signal.Signals, run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "stopped"
    command = "train", "digits", "--epochs", 2, "--run-dir", directory, "--device", "cpu", "--json"
    thread = stop_once_training(number)
    result = mvae(*command)
    thread.join()
    assert (result.code, result.out) == (1, "")
    assert result.err == "stopped in epoch 1; go on with the same command and --resume\n"
    info = mvae("info", directory, "--json").json()
    assert info["progress"]["epoch"] == 0
    assert info["last"] is None
    assert mvae("info", directory).code == 0
    assert mvae("evaluate", directory, "--rows", 2, "--samples", 10, "--device", "cpu").code == 0
    assert mvae("sample", directory, "--n", 1, "--device", "cpu").code == 0
    if number is signal.SIGTERM:  # once is enough
        return
    resumed = mvae(*command, "--resume")
    assert resumed.code == 0
    assert_same_weights(directory, run)
    said = resumed.json()
    assert said["likelihoods"].keys() == {"log p(x1)", "log p(x1,x2)", "log p(x1|x2)"}
    assert (said["run"], said["picture"]) == (str(directory), str(directory / "samples.png"))
    assert said["best_epoch"] == mvae("info", run, "--json").json()["progress"]["best_epoch"]


def test_stopped_command_says_so(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """Commands that save nothing on the way used to end without a message."""

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mvae.runs.report.report", stopped)
    shown = mvae("report", run)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.splitlines()[-1] == "mvae: stopped, and no file is half-written: give the same command again"


def test_run_without_a_checkpoint_is_reported(copy: Path) -> None:
    (copy / CHECKPOINT).unlink()
    (copy / METRICS).unlink()
    result = mvae("info", copy)
    assert result.code == 0
    assert re.search(r"^checkpoint +none yet$", result.out, re.MULTILINE)
    assert mvae("info", copy, "--json").json()["progress"] == {}
    assert_refused(mvae("evaluate", copy), "the run has not saved one yet")
    assert_refused(mvae("sample", copy), "the run has not saved one yet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["phases"], "no declaration 'phases'; there are binary-mnist, celeba"),
        (["digits", "--variant", "papers"], "no variant 'papers'; there are paper, laptop"),
        (["digits", "--set", "model.name=gan"], "no model 'gan'; there are bivcca"),
        (["digits", "--device", "nonsense"], "no device 'nonsense' here"),
        (["digits", "--epochs", "0"], "training.epochs must be at least 1, not 0"),
        (["digits", "--epochs", "ten"], "'ten' is not a valid integer"),
        (["digits", "--batch-size", "0"], "training.batch_size must be at least 1, not 0"),
        (["digits", "--learning-rate", "-1"], "training.learning_rate must be greater than 0, not -1.0"),
        (["digits", "--seed", "-1"], "seed must be at least 0, not -1"),
        (["digits", "--set", "label"], "--set 'label': write KEY=VALUE"),
        (
            ["digits", "--set", "modalities.label.weight=-1"],
            "modalities.label.weight must be at least 0, not -1",
        ),
        (["digits", "--resume"], "is not a run directory: it has no run.json"),
        (["digits", "--colour"], "No such option"),
        (["mnist", "--data-dir", "absent"], "no directory absent to read mnist from: correct --data-dir or MVAE_DATA"),
        ([], "Missing argument 'NAME|FILE...'"),
    ],
)
def test_invalid_training_is_refused_and_leaves_nothing_behind(
    options: list[str], message: str, tmp_path: Path
) -> None:
    assert_refused(mvae("train", *options, "--run-dir", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


def test_run_is_neither_overwritten_nor_written_into_a_file(run: Path) -> None:
    before = (run / CHECKPOINT).read_bytes()
    assert_refused(
        mvae("train", "digits", "--run-dir", run), "holds a run already: go on with --resume, or choose another"
    )
    assert_refused(mvae("train", "digits", "--run-dir", run, "--resume", "--epochs", 3), "training.epochs was 2, now 3")
    assert_refused(mvae("train", "digits", "--run-dir", run / SETTINGS / "deeper"), "cannot write ")
    assert (run / CHECKPOINT).read_bytes() == before


# -- evaluate ------------------------------------------------------------------------------------------------------


def test_evaluate_prints_only_a_table_or_json(run: Path) -> None:
    command = "evaluate", run, "--rows", 5, "--samples", 20, "--device", "cpu"
    text, said = mvae(*command), mvae(*command, "--json")
    assert (text.code, text.err, said.code, said.err) == (0, "", 0, "")
    value = said.json()
    assert (value["rows"], value["samples"], value["proposal"]) == (5, 20, ["image"])
    mean = value["likelihoods"]["log p(x1)"]["mean"]
    assert f"{mean:.3f}" in text.out
    assert "5 test rows, 20 samples of q(z | image)" in text.out
    assert mvae(*command, "--json").json() == value
    assert mvae(*command, "--json", "--seed", 1).json()["likelihoods"]["log p(x1)"]["mean"] != mean


def test_undefined_numbers_are_null_in_json(run: Path) -> None:
    """One row has no standard error, five samples no tail."""
    said = mvae("evaluate", run, "--rows", 1, "--samples", 5, "--device", "cpu", "--json").json()
    assert said["likelihoods"]["log p(x1)"]["standard_error"] is None
    assert said["likelihoods"]["log p(x1)"]["pareto_k"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "0 is not in the range x>=1"),
        (["--samples", "1"], "1 is not in the range 2<=x<="),
        (["--proposal", "sound"], "no modality 'sound' in this model; it has image, label"),
        (["--device", "nonsense"], "no device 'nonsense' here"),
    ],
)
def test_invalid_evaluation_is_refused(options: list[str], message: str, run: Path) -> None:
    assert_refused(mvae("evaluate", run, *options), message)


# -- sample --------------------------------------------------------------------------------------------------------


def test_sample_writes_a_grid_and_prints_labels_reproducibly(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "grid.png"
    command = "sample", run, "--n", 5, "--output", path, "--device", "cpu"
    result = mvae(*command)
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(rf"picture: {re.escape(str(path))}\nlabel: \d \d \d \d \d\n", result.out)
    first = path.read_bytes()
    with Image.open(path) as picture:
        assert picture.size == (3 * 58 + 2, 2 * 58 + 2)
    said = mvae(*command, "--json").json()
    assert said == {"run": str(run), "picture": str(path), "samples": {"label": result.out.split()[3:]}}
    assert path.read_bytes() == first
    mvae(*command, "--seed", 1)
    assert path.read_bytes() != first


def test_sample_accepts_given_and_of(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGBA", (300, 200), "white").save(path)
    of_image = mvae("sample", run, "--given", f"image={path}", "--n", 3, "--json", "--device", "cpu").json()
    assert of_image["picture"] is None
    assert len(of_image["samples"]["label"]) == 3
    grid = tmp_path / "grid.png"
    of_label = mvae("sample", run, "--given", "label=5", "--n", 1, "--output", grid, "--device", "cpu")
    assert of_label.out == f"picture: {grid}\n"
    both = "--given", "label=5", "--given", f"image={path}"
    assert mvae("sample", run, *both, "--of", "label", "--n", 2, "--json", "--device", "cpu").code == 0
    listed = mvae("sample", run, *both, "--of", "label,image", "--n", 2, "--output", grid, "--device", "cpu")
    assert re.fullmatch(rf"picture: {re.escape(str(grid))}\nlabel: \d \d\n", listed.out)
    assert_refused(mvae("sample", run, *both), "everything is given, so say what to generate: --of image")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_picture_is_named_with_a_remedy(damage: str, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.effect_noise((90, 70), 50).save(path)
    path.write_bytes({"truncated": path.read_bytes()[:-900], "text": b"a photo", "empty": b""}[damage])
    refused = mvae("sample", run, "--given", f"image={path}", "--of", "label")
    assert_refused(refused, f"cannot read the picture {path}: ")
    assert "give a picture file that opens in a viewer" in refused.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "0 is not in the range 1<=x<="),
        (["--n", "-4"], "-4 is not in the range 1<=x<="),
        (["--given", "sound=1"], "no modality 'sound' in this model; it has image, label"),
        (["--given", "label=5.5"], "label is one of 0, 1, 2"),
        (["--given", "label"], "write MODALITY=VALUE, for example label=5"),
        (["--given", "image=absent.png"], "cannot read the picture absent.png: No such file"),
        (["--of", "sound"], "no modality 'sound'"),
        (["--seed", "many"], "'many' is not a valid integer"),
        (["--device", "nonsense"], "no device 'nonsense' here"),
    ],
)
def test_invalid_samples_are_refused(options: list[str], message: str, run: Path, tmp_path: Path) -> None:
    assert_refused(mvae("sample", run, *options, "--output", tmp_path / "grid.png"), message)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_picture_is_refused(run: Path) -> None:
    assert_refused(mvae("sample", run, "--output", run / SETTINGS / "grid.png", "--device", "cpu"), "cannot write ")


# -- info, and invalid run directories -----------------------------------------------------------------------------


def test_info_shows_settings_progress_and_the_last_metrics(run: Path) -> None:
    result, said = mvae("info", run), mvae("info", run, "--json").json()
    assert (result.code, result.err) == (0, "")
    for line in (
        r"data.source +digits",
        r"training.epochs +2",
        r"epoch +2",
        r"best_epoch +2",
        r" +validation/objective +\d",
    ):
        assert re.search(f"^{line}", result.out, re.MULTILINE), line
    assert said["settings"] == read_json(run / SETTINGS)
    assert said["last"] == read_last(run)
    assert said["progress"]["epoch"] == 2


@pytest.mark.parametrize("command", ["evaluate", "sample", "info"])
def test_invalid_run_is_refused_by_every_command(command: str, copy: Path, tmp_path: Path) -> None:
    assert_refused(mvae(command, tmp_path / "absent"), "run.json")
    assert_refused(mvae(command, tmp_path), "run.json")
    (copy / CHECKPOINT).write_bytes((copy / CHECKPOINT).read_bytes()[:5000])
    assert_refused(mvae(command, copy), "checkpoint.safetensors is damaged")
    (copy / SETTINGS).write_text("{")
    assert_refused(mvae(command, copy), "run.json is damaged")
    assert_refused(mvae(command), "Missing argument 'RUN'")


def test_run_of_another_model_is_refused(copy: Path) -> None:
    stored = read_json(copy / SETTINGS)
    stored["config"]["model"]["latents"] = 8
    (copy / SETTINGS).write_text(json.dumps(stored))
    for command in ("evaluate", "sample"):
        assert_refused(mvae(command, copy), "belongs to another model")


# -- config --------------------------------------------------------------------------------------------------------


def test_shipped_declarations_are_listed_shown_and_trained_from_a_file(tmp_path: Path) -> None:
    assert re.search(r"^digits +8×8 digits", mvae("config", "list").out, re.MULTILINE)
    shown = mvae("config", "show", "digits").out
    path = tmp_path / "run.toml"
    path.write_text(shown)
    changes = "--set", "model.latents=2", "--set", "training.anneal_epochs=1"
    trained = mvae("train", path, "--epochs", 1, *changes, "--run-dir", tmp_path / "run", "--json")
    assert trained.code == 0, trained.err
    config = read_json(tmp_path / "run" / SETTINGS)["config"]
    assert config["model"]["latents"] == 2
    assert config["training"]["epochs"] == config["training"]["anneal_epochs"] == 1  # not scaled with the epochs
    assert json.loads(mvae("config", "schema").out)["title"] == "Config"
    assert_refused(mvae("config", "show", "mnits"), "did you mean 'mnist'?")


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("plotly", "report", ["report", "RUN"]),
        ("plotly", "report", ["compare", "RUN", "-o", "c.html"]),
        ("matplotlib", "plots", ["describe", "absent.csv", "--picture", "p.png"]),
        ("matplotlib", "plots", ["reproduce", "figure9", "--data-dir", "absent"]),
    ],
)
def test_absent_extra_is_named_before_anything_else_is_wrong(
    package: str, extra: str, words: list[str], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    (copy / CHECKPOINT).unlink()
    result = mvae(*(str(copy) if word == "RUN" else word for word in words))
    assert_refused(result, f"need {package}: pip install 'mvae[{extra}]'")
