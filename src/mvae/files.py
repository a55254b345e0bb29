"""Files that are there whole or not at all: text, JSON, tensors as safetensors; never a pickle.

Every file is written beside its place, flushed to the disk and then renamed, so that a reader (or a resumed
run) sees either the old one or the new one, whole, whenever the process was killed.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mvae.errors import RunError

__all__ = [
    "check_weights",
    "copied",
    "load_state",
    "load_weights",
    "prefixed",
    "read_json",
    "save_state",
    "without_prefix",
    "write_json",
    "write_whole",
]


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    Raises:
        RunError: the disk is full, the directory read-only or gone; nothing half-written is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"cannot write {path}: {reason}. Free some space or choose another --run-dir") from error
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    text = json.dumps(value, indent=2) + "\n"

    def write(file: Path) -> None:
        file.write_text(text)

    write_whole(path, write)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        RunError: absent, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged (no JSON object); train again in another --run-dir")
    return value


def save_state(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Tensors and a JSON header in one safetensors file, whole or not at all."""
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_whole(path, lambda file: save_file(owned, file, {"info": json.dumps(info)}))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_state` wrote, on the CPU.

    Raises:
        RunError: the file is absent, truncated, or not one of ours.
    """
    if not path.is_file():
        raise RunError(f"no checkpoint at {path}: the run has not saved one yet, or this is not a run directory")
    try:
        with safe_open(path, "pt") as file:
            info = dict(json.loads(file.metadata()["info"]))
            return {name: file.get_tensor(name) for name in file.keys()}, info  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a model that has exactly these tensors.

    Raises:
        RunError: a tensor is missing, extra, or of another shape; the model is left as it was.
    """
    check_weights(model, tensors, path)
    model.load_state_dict(dict(tensors))


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Are these exactly the model's tensors?

    Raises:
        RunError: a tensor is missing, extra, or of another shape.
    """
    expected = model.state_dict()
    complaints = [
        *_listed("lacks", expected.keys() - tensors.keys()),
        *_listed("has the unknown", tensors.keys() - expected.keys()),
        *(
            f"has {name} of shape {tuple(tensors[name].shape)} where the model's is {tuple(value.shape)}"
            for name, value in expected.items()
            if name in tensors and tensors[name].shape != value.shape
        ),
    ]
    if complaints:
        raise RunError(f"{path} belongs to another model: it {'; '.join(complaints[:4])}")


def _listed(verb: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{verb} {', '.join(names[:3])}{more}"]


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names under a prefix: how several sets of tensors share one file."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under a prefix, by their own names."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and buffers, where they are."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
