"""Files are written whole or not at all, damage is reported in one line, and nothing is pickled."""

import ast
import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mvae
from mvae import files as kept
from mvae.errors import RunError

NAME = "checkpoint.safetensors"


def files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


# -- Whole or not at all -------------------------------------------------------------------------------------------


def test_write_whole_replaces_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    seen: list[str] = []

    def write_one(file: Path) -> None:
        file.write_text("one")

    def write(file: Path) -> None:
        file.write_text("tw")
        seen.append(path.read_text())  # a reader in the meantime sees the old file
        file.write_text("two")

    kept.write_whole(path, write_one)
    with path.open() as reader:
        kept.write_whole(path, write)
        assert reader.read() == "one"  # so does one that opened it before: a new file took its place
    assert seen == ["one"]
    assert path.read_text() == "two"
    assert files(path.parent) == {"file"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_failed_write_leaves_only_the_old_file(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("half")
        raise error

    with pytest.raises((RunError, KeyboardInterrupt)) as caught:
        kept.write_whole(path, fail)
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"cannot write {path}: No space left on device. Free some space")
    assert path.read_text() == "old"
    assert files(tmp_path) == {"file"}


def test_unwritable_path_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run.json", tmp_path / "file" / "deeper" / "run.json", tmp_path):
        with pytest.raises(RunError, match="cannot write ") as caught:
            kept.write_json(path, {})
        assert "\n" not in str(caught.value)


def test_state_round_trips(tmp_path: Path) -> None:
    path, whole = tmp_path / NAME, torch.arange(6.0)
    tensors = {
        "view": whole[2:5],
        "turned": whole.reshape(2, 3).T,
        "bytes": torch.tensor([1, 2], dtype=torch.uint8),
        "number": torch.tensor(0.1, dtype=torch.float64),
        "trained": nn.Parameter(whole),
        "empty": torch.zeros(0, 3),
    }
    kept.save_state(path, tensors, {"epoch": 3, "best": float("inf"), "name": "ü"})
    found, info = kept.load_state(path)
    assert info == {"epoch": 3, "best": float("inf"), "name": "ü"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        kept.write_json(tmp_path / "run.json", {})
        kept.save_state(tmp_path / NAME, {"x": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o640}


def test_special_files_are_not_replaced(tmp_path: Path) -> None:
    """Devices, pipes (opening one that nobody reads would hang), links to devices, directories."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    for path in (Path(os.devnull), tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"):
        with pytest.raises(RunError, match=r"cannot write .*only files are replaced"):
            kept.write_json(path, {})
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert files(tmp_path) == {"pipe", "link", "folder"}


def test_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".run.json.{os.getpid()}").symlink_to(victim)  # a name that can be guessed
    kept.write_json(tmp_path / "run.json", {})
    monkeypatch.setattr(kept.secrets, "token_hex", lambda _: "known")
    (tmp_path / ".run.json.known").symlink_to(victim)  # even if the name is guessed
    with pytest.raises(RunError, match="File exists"):
        kept.write_json(tmp_path / "run.json", {"new": 1})
    assert victim.read_text() == "precious"
    assert kept.read_json(tmp_path / "run.json") == {}


# -- Damage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    kept.save_state(tmp_path / NAME, {"x": torch.randn(50)}, {"epoch": 1})
    return tmp_path / NAME


@pytest.mark.parametrize("left", [0, 4, 8, 30, 100, -1])
def test_truncated_checkpoint_is_refused(state: Path, left: int) -> None:
    state.write_bytes(state.read_bytes()[:left])
    with pytest.raises(RunError, match=r"is damaged .*train again in another") as caught:
        kept.load_state(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("position", [-200, -77, -1])
def test_flipped_bit_is_refused(state: Path, position: int) -> None:
    content = bytearray(state.read_bytes())
    content[position] ^= 4
    state.write_bytes(content)
    with pytest.raises(RunError, match=r"is damaged .its contents have another checksum"):
        kept.load_state(state)


def test_changed_header_is_refused(state: Path) -> None:
    """It holds the names of classes and columns; its checksum was that of the tensors alone."""
    content = state.read_bytes()
    state.write_bytes(content.replace(b'epoch\\": 1', b'epoch\\": 3'))
    assert state.read_bytes() != content
    with pytest.raises(RunError, match=r"is damaged .its contents have another checksum"):
        kept.load_state(state)


def test_file_whose_checksum_is_of_the_tensors_alone_is_read(tmp_path: Path) -> None:
    """Files of before the checksum covered the header."""
    x = torch.tensor([1.0, 2.0])
    digest = hashlib.sha256(b"x torch.float32 (2,)\n" + x.numpy().tobytes()).hexdigest()
    save_file({"x": x}, tmp_path / NAME, {"info": '{"epoch": 1}', "checksum": digest})
    assert kept.load_state(tmp_path / NAME)[1] == {"epoch": 1}


@pytest.mark.parametrize("garbage", [b"no checkpoint at all", b"\xff" * 1000, b"\x00" * 1000, b"PK\x03\x04" * 50])
def test_file_of_another_type_is_refused(state: Path, garbage: bytes) -> None:
    state.write_bytes(garbage)
    with pytest.raises(RunError, match=f"{state} is damaged"):
        kept.load_state(state)


@pytest.mark.parametrize("metadata", [None, {}, {"info": "no json"}, {"info": "3"}])
def test_foreign_safetensors_are_refused(state: Path, metadata: dict[str, str] | None) -> None:
    save_file({"x": torch.zeros(2)}, state, metadata)
    with pytest.raises(RunError, match="is damaged"):
        kept.load_state(state)


def test_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing" / NAME, tmp_path):
        with pytest.raises(RunError, match=f"no checkpoint at {path}"):
            kept.load_state(path)


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
def test_weights_of_another_model_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    target = network()
    tensors = {name: torch.full_like(value, 7) for name, value in target.state_dict().items()}
    for name, value in change.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    with pytest.raises(RunError, match=f"^here belongs to another model: {message}$"):
        kept.load_weights(target, tensors, Path("here"))
    for name, value in network().state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.weight", torch.full((3, 2), float("nan")), "values that are not finite in 0.weight"),
        ("1.running_var", torch.tensor([1.0, 1.0, float("inf")]), "values that are not finite in 1.running_var"),
        ("0.bias", torch.zeros(3, dtype=torch.int8), "0.bias of torch.int8 where the model's is of torch.float32"),
        ("0.bias", torch.zeros(3, dtype=torch.complex64), "0.bias of torch.complex64 where"),
        ("1.num_batches_tracked", torch.tensor(0.5), "1.num_batches_tracked of torch.float32 where"),
    ],
)
def test_invalid_weights_are_refused(name: str, value: Tensor, message: str) -> None:
    target = network()
    with pytest.raises(RunError, match=message):
        kept.load_weights(target, target.state_dict() | {name: value}, Path("here"))
    assert all(torch.equal(one, other) for one, other in zip(target.parameters(), network().parameters(), strict=True))
    halves = {n: v.half() if v.is_floating_point() else v for n, v in target.state_dict().items()}
    kept.load_weights(target, halves, Path("here"))  # another precision is accepted


def test_copied_weights_are_independent_of_the_model() -> None:
    target = network()
    copy = kept.copied(target)
    with torch.no_grad():
        target[0].weight.add_(1)  # pyright: ignore
    assert torch.equal(copy["0.weight"], network().state_dict()["0.weight"])
    assert not copy["0.weight"].requires_grad


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe"])
def test_damaged_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run.json is damaged .*train again") as caught:
        kept.read_json(tmp_path / "run.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"cannot read .*: No such file"):
        kept.read_json(tmp_path / "absent.json")


def test_json_round_trips(tmp_path: Path) -> None:
    kept.write_json(tmp_path / "run.json", {"β": 1, "deep": {"x": [1.5, None]}})
    assert kept.read_json(tmp_path / "run.json") == {"β": 1, "deep": {"x": [1.5, None]}}


# -- No pickle -----------------------------------------------------------------------------------------------------

UNPICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_library_does_not_pickle() -> None:
    """No pickling module, no torch.save and torch.load, and no allow_pickle of NumPy."""
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


def test_an_output_is_refused_only_if_it_is_an_input(tmp_path: Path) -> None:
    (table := tmp_path / "t.csv").write_text("a\n1\n")
    (tmp_path / "link.csv").symlink_to(table)
    for output in (None, tmp_path / "new.csv", tmp_path / ("a" * 300)):  # a name that is too long is refused on writing
        kept.require_apart(output, (table, tmp_path / "absent.csv"))
    for output in (table, tmp_path / "link.csv"):
        with pytest.raises(RunError, match="is read, and would be overwritten"):
            kept.require_apart(output, (table,))
