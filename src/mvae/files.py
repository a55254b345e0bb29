"""Atomic writing and checked reading of files: text, JSON, and tensors as safetensors; never pickles.

Every file is written under a temporary name in the same directory, flushed to the disk and then renamed. So a reader
(or a resumed run) sees either the complete old file or the complete new one, whenever the process is killed.
"""

import errno
import hashlib
import json
import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from mvae.errors import RunError, abridged

Value = TypeVar("Value")

__all__ = [
    "as_path",
    "check_weights",
    "copied",
    "load_state",
    "load_weights",
    "locked",
    "not_finite",
    "parse_json",
    "prefixed",
    "read_json",
    "read_regular",
    "require_apart",
    "save_state",
    "without_prefix",
    "write_json",
    "write_text",
    "write_whole",
]


_log = logging.getLogger("mvae")
_held = threading.local()  # directories that this thread has locked


def as_path(path: object, what: str = "a path") -> Path:
    """Check that this is a usable path, and return it as a Path; the file need not exist.

    Raises:
        RunError: it is neither text nor a path, is empty, contains a NUL, is too long, or is a loop of links.

    >>> as_path("runs/a").name
    'a'
    """
    if not isinstance(path, str | os.PathLike) or isinstance(named := os.fspath(path), bytes):
        raise RunError(f"{what} must be text or a path, not {abridged(path)}")
    if not named:
        raise RunError(f"{what} is empty: name a file or a directory")
    try:
        os.stat(named)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot use {what} {abridged(named)}: {reason}; choose another one") from None
    return Path(named)


def require_apart(output: Path | None, inputs: Iterable[Path]) -> None:
    """Refuse to write over a file that is read.

    Raises:
        RunError: the output is one of the inputs, under this name or another one.
    """
    for path in inputs:
        if output is not None and os.path.exists(output) and os.path.exists(path) and os.path.samefile(output, path):
            raise RunError(f"{output} is read, and would be overwritten: choose another output file")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """The contents of a file.

    Raises:
        OSError: it cannot be read, or is not a regular file: reading a pipe or a device might never end.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    return Path(path).read_bytes()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file next to ``path``, then put it in place in one step.

    The file gets the mode that the umask allows.

    Raises:
        RunError: the disk is full, the directory is read-only or gone, or ``path`` is a device, a pipe or a directory;
            nothing half-written is left.
    """
    path = as_path(path)
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "a device or a pipe"
        raise RunError(f"cannot write {path}: it is {kind}, and only files are replaced")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")  # a name has at most 255 bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Never write through a link or into a file that somebody else has put there.
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        file = os.open(temporary, flags, 0o666)
        mode = stat.S_IMODE(os.fstat(file).st_mode)
        os.close(file)
        write(temporary)  # safetensors replaces the file by its own, which only the owner can read
        with temporary.open("rb+") as written:
            os.chmod(temporary, mode)
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot write {path}: {reason}. Free some space or choose another place") from error
    finally:
        with suppress(OSError):  # an error here would hide the original one
            temporary.unlink()


@contextmanager
def locked(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Let only one process (and one thread of it) into the block for a directory, which is created if absent.

    The lock is released when its process ends, however it ends. Within a thread such blocks may be nested.

    Args:
        directory: the directory to lock.
        wait: wait until the lock is free; otherwise a lock that is taken is an error.

    Raises:
        RunError: another training run is using the directory, or it cannot be created.
    """
    held: set[Path] = _held.__dict__.setdefault("directories", set())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        place = directory.resolve()
        opened = os.open(place, os.O_RDONLY) if fcntl is not None and place not in held else None
    except OSError as error:
        raise RunError(f"cannot write {directory}: {error.strerror}; choose another directory") from error
    if fcntl is None or opened is None:
        yield
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(opened)
        raise RunError(f"another process is training in {directory}: wait, or choose another directory") from None
    except OSError as error:
        _log.warning("%s cannot be locked (%s): let only one training use it at a time", directory, error.strerror)
    held.add(place)
    try:
        yield
    finally:
        held.discard(place)
        os.close(opened)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        RunError: the file is absent, or not a JSON object.
    """
    try:
        value = parse_json(read_regular(path))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged (no JSON object); train again in another --run-dir")
    return value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON into Python values.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def save_state(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write tensors, a JSON header and a checksum to one safetensors file, atomically."""
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    written = json.dumps(info)
    header = {"info": written, "checksum": _checksum(owned, written)}
    write_whole(path, lambda file: save_file(owned, file, header))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        RunError: the file is absent, truncated, changed, or not written by `save_state`.
    """
    if not as_path(path).is_file():
        raise RunError(f"no checkpoint at {path}: the run has not saved one yet, or this is not a run directory")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            written = metadata["info"]
            info = dict(parse_json(written))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            expected = metadata["checksum"]
    except KeyError as error:
        raise RunError(f"{path} is damaged or of an older version (no {error} in it); train again") from None
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from error
    if expected != _checksum(tensors, written) and expected != _checksum(tensors, ""):  # older files: tensors alone
        raise RunError(f"{path} is damaged (its contents have another checksum); train again in another --run-dir")
    return tensors, info


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    """The SHA-256 of a header and of names, dtypes, shapes and values."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a model that has exactly these tensors.

    Raises:
        RunError: a tensor is missing, extra, or of another shape; the model is left as it was.
    """
    check_weights(model, tensors, path)
    model.load_state_dict(dict(tensors))


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that these are exactly the model's tensors, and that all of them are finite.

    Raises:
        RunError: a tensor is missing, extra, of another shape or kind of number, or contains NaN or infinity.
    """
    expected = model.state_dict()
    shaped_by_data = {
        f"{prefix}.{name}" for prefix, module in model.named_modules() for name in getattr(module, "shaped_by_data", ())
    }
    both = {name: (tensors[name], value) for name, value in expected.items() if name in tensors}
    complaints = [
        *_listed("lacks", expected.keys() - tensors.keys()),
        *_listed("has the unknown", tensors.keys() - expected.keys()),
        *(
            f"has {name} of shape {tuple(found.shape)} where the model's is {tuple(value.shape)}"
            for name, (found, value) in both.items()
            if found.shape != value.shape and name not in shaped_by_data
        ),
        *(
            f"has {name} of {found.dtype} where the model's is of {value.dtype}"
            for name, (found, value) in both.items()
            if _kind(found) != _kind(value)
        ),
    ]
    if complaints:
        raise RunError(f"{path} belongs to another model: it {'; '.join(complaints[:4])}")
    if bad := not_finite({name: found for name, (found, _) in both.items()}):
        raise RunError(f"{path} {'; '.join(_listed('has values that are not finite in', bad))}: train again")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those that hold NaN or infinity.

    >>> not_finite({"a": torch.tensor([1.0, torch.nan]), "b": torch.tensor([1])})
    ['a']
    """
    return [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "real"
    return "complex" if tensor.is_complex() else "whole"


def _listed(verb: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{verb} {', '.join(names[:3])}{more}"]


def prefixed(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Put a prefix before every name, so that several sets of tensors can share one file."""
    return {f"{prefix}/{name}": value for name, value in values.items()}


def without_prefix(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors or metrics under a prefix, with the prefix removed from their names."""
    return {name.removeprefix(f"{prefix}/"): v for name, v in values.items() if name.startswith(f"{prefix}/")}


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and buffers, on their devices."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
