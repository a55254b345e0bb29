"""Run directories: whole files or none, damage named in one line, and never a pickle."""

import ast
import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mvae
from mvae import files as kept_files
from mvae.errors import RunError
from mvae.training import checkpoint
from mvae.training.checkpoint import CHECKPOINT, METRICS


def files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


# -- Whole or not at all -------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    seen: list[str] = []

    def write_one(file: Path) -> None:
        file.write_text("one")

    def write(file: Path) -> None:
        file.write_text("tw")
        seen.append(path.read_text())  # whoever looks meanwhile sees the old file
        file.write_text("two")

    kept_files.write_whole(path, write_one)
    with path.open() as reader:
        kept_files.write_whole(path, write)
        assert reader.read() == "one"  # also who opened it before: a new file took its place
    assert seen == ["one"]
    assert path.read_text() == "two"
    assert files(path.parent) == {"file"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_what_goes_wrong_while_writing_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("half")
        raise error

    with pytest.raises((RunError, KeyboardInterrupt)) as caught:
        kept_files.write_whole(path, fail)
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"cannot write {path}: No space left on device. Free some space")
    assert path.read_text() == "old"
    assert files(tmp_path) == {"file"}


def test_a_place_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run.json", tmp_path / "file" / "deeper" / "run.json", tmp_path):
        with pytest.raises(RunError, match="cannot write ") as caught:
            kept_files.write_json(path, {})
        assert "\n" not in str(caught.value)


def test_state_comes_back_with_its_dtypes_its_views_and_its_header(tmp_path: Path) -> None:
    path, whole = tmp_path / CHECKPOINT, torch.arange(6.0)
    tensors = {
        "view": whole[2:5],
        "turned": whole.reshape(2, 3).T,
        "bytes": torch.tensor([1, 2], dtype=torch.uint8),
        "number": torch.tensor(0.1, dtype=torch.float64),
        "trained": nn.Parameter(whole),
        "empty": torch.zeros(0, 3),
    }
    kept_files.save_state(path, tensors, {"epoch": 3, "best": float("inf"), "name": "ü"})
    found, info = kept_files.load_state(path)
    assert info == {"epoch": 3, "best": float("inf"), "name": "ü"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


# -- Damage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    kept_files.save_state(tmp_path / CHECKPOINT, {"x": torch.randn(50)}, {"epoch": 1})
    return tmp_path / CHECKPOINT


@pytest.mark.parametrize("kept", [0, 4, 8, 30, 100, -1])
def test_a_truncated_checkpoint_is_refused_wherever_it_was_cut(state: Path, kept: int) -> None:
    state.write_bytes(state.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"is damaged .*train again in another") as caught:
        kept_files.load_state(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("garbage", [b"no checkpoint at all", b"\xff" * 1000, b"\x00" * 1000, b"PK\x03\x04" * 50])
def test_a_file_of_another_kind_is_refused(state: Path, garbage: bytes) -> None:
    state.write_bytes(garbage)
    with pytest.raises(RunError, match=f"{state} is damaged"):
        kept_files.load_state(state)


@pytest.mark.parametrize("metadata", [None, {}, {"info": "no json"}, {"info": "3"}])
def test_safetensors_of_somebody_else_are_refused(state: Path, metadata: dict[str, str] | None) -> None:
    save_file({"x": torch.zeros(2)}, state, metadata)
    with pytest.raises(RunError, match="is damaged"):
        kept_files.load_state(state)


def test_a_checkpoint_that_is_not_there_is_said_to_be_absent(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing" / CHECKPOINT, tmp_path):
        with pytest.raises(RunError, match=f"no checkpoint at {path}"):
            kept_files.load_state(path)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, "it lacks 0.weight"),
        ({"0.weight": None, "0.bias": None}, "it lacks 0.bias, 0.weight"),
        ({"2.weight": torch.zeros(1)}, "it has the unknown 2.weight"),
        ({"0.weight": torch.zeros(3, 5)}, r"it has 0.weight of shape \(3, 5\) where the model's is \(3, 2\)"),
        ({f"{i}.x": torch.zeros(1) for i in range(10, 99)}, "it has the unknown 10.x, 11.x, 12.x and 86 more"),
        ({"1.running_mean": None, "odd": torch.zeros(1)}, "it lacks 1.running_mean; has the unknown odd"),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_the_model_left_alone(
    change: dict[str, Tensor | None], message: str
) -> None:
    target = network()
    tensors = {name: torch.full_like(value, 7) for name, value in target.state_dict().items()}
    for name, value in change.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    with pytest.raises(RunError, match=f"^here belongs to another model: {message}$"):
        kept_files.load_weights(target, tensors, Path("here"))
    for name, value in network().state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_the_best_weights_stand_for_a_run_and_the_last_where_none_were_chosen(tmp_path: Path) -> None:
    last, best = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    kept_files.save_state(tmp_path / CHECKPOINT, kept_files.prefixed("model", last), {})
    assert checkpoint.best_weights(tmp_path)[0] == last
    both = kept_files.prefixed("model", last) | kept_files.prefixed("best", best)
    kept_files.save_state(tmp_path / CHECKPOINT, both, {"epoch": 2})
    assert checkpoint.best_weights(tmp_path) == (best, {"epoch": 2})


def test_copied_weights_do_not_follow_the_model() -> None:
    target = network()
    copy = kept_files.copied(target)
    with torch.no_grad():
        target[0].weight.add_(1)  # pyright: ignore
    assert torch.equal(copy["0.weight"], network().state_dict()["0.weight"])
    assert not copy["0.weight"].requires_grad


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe"])
def test_damaged_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run.json is damaged .*train again") as caught:
        kept_files.read_json(tmp_path / "run.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"cannot read .*: No such file"):
        kept_files.read_json(tmp_path / "absent.json")


def test_json_comes_back(tmp_path: Path) -> None:
    kept_files.write_json(tmp_path / "run.json", {"β": 1, "deep": {"x": [1.5, None]}})
    assert kept_files.read_json(tmp_path / "run.json") == {"β": 1, "deep": {"x": [1.5, None]}}


@pytest.mark.parametrize("end", [b"", b"{", b'{"epoch": 3', b'{"epoch": 3, "\xce'])
def test_a_last_line_of_metrics_cut_by_a_kill_is_left_out(end: bytes, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + end)
    assert checkpoint.read_metrics(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


def test_another_line_of_metrics_that_is_damaged_is_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"epoch": 1}\n{"ep\n{"epoch": 3}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2 is not JSON"):
        checkpoint.read_metrics(tmp_path)


def test_a_run_whose_first_epoch_has_not_ended_has_no_metrics(tmp_path: Path) -> None:
    assert checkpoint.read_metrics(tmp_path) == []


# -- No pickle -----------------------------------------------------------------------------------------------------

UNPICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_in_the_library_pickles() -> None:
    """Neither by module, nor by torch.save and torch.load, nor by NumPy's allow_pickle."""
    sources = list(Path(mvae.__file__).parent.rglob("*.py"))
    assert len(sources) > 20
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            match node:
                case ast.Import(names=names):
                    imported = {alias.name.split(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), names=names):
                    imported = {module.split(".")[0]}
                    if module == "torch":
                        assert not {alias.name for alias in names} & {"save", "load"}, source
                case ast.Attribute(value=ast.Name(id="torch"), attr="save" | "load"):
                    pytest.fail(f"{source}:{node.lineno} pickles")
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    pytest.fail(f"{source}: allow_pickle=True")
                case _:
                    continue
            assert not imported & UNPICKLERS, source
