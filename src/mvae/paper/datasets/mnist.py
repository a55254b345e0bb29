"""MNIST, and the reader it shares with every dataset published as the same four IDX files."""

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from mvae.data.codecs import class_names
from mvae.data.dataset import Dataset
from mvae.data.download import cache_directory, data_directory, fetch
from mvae.data.idx import read_idx
from mvae.data.table import Column, Table
from mvae.errors import DataError

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
MOST_BYTES = 1 << 28  # of a file; the largest has 47 million
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {  # of the decompressed bytes
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load MNIST: 50,000 / 10,000 / 10,000 rows, the validation rows being the last of the training files.

    Columns: ``image`` uint8 ``rows 1 28 28`` (levels 0 … 255), ``label`` int64 ``rows``.

    Args:
        data_dir: a directory that holds the four files, or has a folder ``mnist`` that does; by default the
            environment variable ``MVAE_DATA``, and without that the cache, to which missing files are downloaded.

    Raises:
        DataError: the files are absent from the directory given, cannot be downloaded, or are damaged.
    """
    return load_idx_dataset("mnist", data_dir, mirrors=MIRRORS, sha256=SHA256, classes=tuple("0123456789"))


def load_idx_dataset(
    name: str,
    data_dir: str | PathLike[str] | None,
    *,
    mirrors: Sequence[str],
    sha256: Mapping[str, str],
    classes: tuple[str, ...],
    validation: int = 10_000,
) -> Dataset:
    """Load a dataset of grey images and labels published as MNIST's four IDX files.

    Args:
        name: the name of the dataset and of its folder.
        data_dir: as for `load`.
        mirrors: addresses of the folders that hold the four ``.gz`` files.
        sha256: file name without ``.gz`` → SHA-256 of its decompressed bytes.
        classes: the names of the labels 0, 1, ….
        validation: rows for validation, the last of the training files.

    Raises:
        DataError: the files are absent from the directory given, cannot be downloaded, are damaged, or belong to
            another dataset.
    """
    if directory := data_directory(data_dir):
        files = _files_in(directory, name, mirrors)
        remedy = "replace it by an intact copy"
    else:
        files = _files_in_cache(name, mirrors, sha256)
        remedy = "delete it and run again to download it afresh"

    def read(image_file: str, label_file: str) -> dict[str, Column]:
        labels = _published(files[label_file], f"labels of {name}", sha256[label_file], remedy)
        images = _published(files[image_file], f"images of {name}", sha256[image_file], remedy)
        return {
            "image": torch.from_numpy(images).unsqueeze(1),
            "label": torch.from_numpy(labels.astype(np.int64)),
        }

    columns = read(*TRAIN)
    return Dataset(
        name,
        train=Table({column: values[:-validation] for column, values in columns.items()}),
        validation=Table({column: values[-validation:] for column, values in columns.items()}),
        test=Table(read(*TEST)),
        codecs={"label": class_names(classes)},
    )


def _files_in(directory: Path, name: str, mirrors: Sequence[str]) -> dict[str, Path]:
    """The four files of a directory that the user named; nothing is ever downloaded there."""
    # The dataset's own folder first, and all files from one folder: MNIST and FashionMNIST share their file names.
    folders = (directory / name, directory)
    missing: dict[Path, list[str]] = {}
    for folder in folders:
        found = {file: _find(folder, file) for file in TRAIN + TEST}
        missing[folder] = [f"{file}.gz" for file, path in found.items() if path is None]
        if not missing[folder]:
            return {file: path for file, path in found.items() if path is not None}
    if not directory.is_dir():
        raise DataError(f"no directory {directory} to read {name} from: correct --data-dir or MVAE_DATA")
    least = min(missing.values(), key=len)
    raise DataError(
        f"{name} not found: looked in {folders[0]} and in {folders[1]} for {', '.join(least)} (also without .gz, "
        f"and spelled {TRAIN[0].replace('-idx', '.idx')}): put them there (they are at {' and at '.join(mirrors)}), "
        "or leave out --data-dir and MVAE_DATA to have them downloaded"
    )


def _files_in_cache(name: str, mirrors: Sequence[str], sha256: Mapping[str, str]) -> dict[str, Path]:
    folder = cache_directory() / name
    needed = [f"{file}.gz" for file in TRAIN + TEST]
    return {
        file: _find(folder, file) or fetch(f"{file}.gz", mirrors, sha256[file], folder, needed=needed)
        for file in TRAIN + TEST
    }


def _find(folder: Path, file: str) -> Path | None:
    dotted = file.replace("-idx", ".idx")
    for spelling in (file, f"{file}.gz", dotted, f"{dotted}.gz"):
        if os.path.isfile(folder / spelling):
            return folder / spelling
    return None


def _published(file: Path, what: str, sha256: str, remedy: str) -> np.ndarray:
    """Read a file, and refuse all but the published bytes: MNIST's relatives share its file names and shapes."""
    values = read_idx(file, remedy, MOST_BYTES)
    digest = hashlib.sha256(struct.pack(f">BBBB{values.ndim}I", 0, 0, 0x08, values.ndim, *values.shape))
    digest.update(values.data)  # the file again, decompressed: its header and its bytes
    if digest.hexdigest() != sha256:
        held = f"{'×'.join(map(str, values.shape))} {values.dtype}"
        raise DataError(
            f"{file} is intact but does not hold the {what} (it holds {held}; another dataset's file of the same "
            f"name?): {remedy}"
        )
    return values
