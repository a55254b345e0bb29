"""Files of cells (``.h5ad``, ``.h5mu``) whose matrices stay on disk; anndata itself leaves only X there, not layers."""

from pathlib import Path
from typing import Any

from mvae.errors import require_extra

__all__ = ["OnDisk", "open_on_disk"]


class OnDisk:
    """An open file with the attributes of AnnData or MuData: X, layers and raw stay on disk, everything else is read.

    Args:
        group: group of h5py: the file itself, or a modality in it.
    """

    def __init__(self, group: Any):
        read = require_extra("anndata.io", "anndata", "files of cells").read_elem
        self.obs = read(group["obs"])
        self.obs_names = self.obs.index
        self.X, self.var_names = _matrix(group), read(group["var"]).index
        self.layers = {name: _matrix(group["layers"], name) for name in group.get("layers", ())}
        self.obsm = {name: read(values) for name, values in group.get("obsm", {}).items()}
        self.raw = _Raw(group["raw"]) if "raw" in group else None
        self.mod = {name: OnDisk(part) for name, part in group.get("mod", {}).items()}


class _Raw:
    def __init__(self, group: Any):
        read = require_extra("anndata.io", "anndata", "files of cells").read_elem
        self.X, self.var_names = _matrix(group), read(group["var"]).index


def open_on_disk(path: Path) -> OnDisk:
    """Open a file; it is closed when none of its matrices is used any more.

    Raises:
        OSError, KeyError, ValueError: no such file, or not one of this format. MissingDependencyError: anndata is not
            installed.
    """
    return OnDisk(require_extra("h5py", "anndata", "files of cells").File(path, "r"))


def _matrix(group: Any, name: str = "X") -> Any:
    """A dense or sparse matrix that is read by rows; None if there is none."""
    if name not in group:
        return None
    found = group[name]
    dense = hasattr(found, "shape")
    return found if dense else require_extra("anndata.io", "anndata", "files of cells").sparse_dataset(found)
