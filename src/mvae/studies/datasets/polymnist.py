"""PolyMNIST (Sutter et al. 2021, arXiv:2105.02470): five pictures of the same digit on five different backgrounds.

It is composed from MNIST and five pictures by the original's recipe. Each modality shows crops of its picture, in which
the colours under an MNIST digit (its pixels above 128 of 255) are inverted. A row's five digits are of the same class
but in different handwriting: for each class and modality, that class's digits are randomly permuted, and paired by
rank. Every digit of MNIST occurs once per modality.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from mvae.data.cache import cached_array
from mvae.data.codecs import class_names
from mvae.data.dataset import Dataset
from mvae.data.download import cache_directory, data_directory
from mvae.data.table import Column, Table
from mvae.errors import DataError, SettingsError
from mvae.paper.datasets import digits as embedded
from mvae.paper.datasets import mnist
from mvae.studies.textures import textures

MODALITIES = ("m0", "m1", "m2", "m3", "m4")
FOLDER = "polymnist-backgrounds"
ENLARGED = {"m1_the_scream_1200x1528": (1800, 2292)}  # a smaller copy is enlarged to the size of the original's picture
SIDE, INK = 28, 128
VALIDATION = 5_000  # of MNIST's 60,000 training digits
VERSION = 1  # of the composition: part of the cache's name
CHUNK = 1000  # pictures composed at once

log = logging.getLogger("mvae.data")


def load(
    data_dir: str | PathLike[str] | None = None,
    backgrounds: str | None = None,
    digits: str = "mnist",
    missing: float = 0.0,
    validation: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Compose PolyMNIST, or open it if it was composed before: 55,000 / 5,000 / 10,000 rows.

    Columns: ``m0`` to ``m4`` uint8 ``rows 3 28 28`` (memory-mapped), and ``label`` int64 ``rows`` (not a modality).

    Args:
        data_dir: the folder of MNIST (`mvae.paper.datasets.mnist.load`) and, optionally, of ``polymnist-backgrounds``.
        backgrounds: a folder of five pictures, which are for m0 to m4 in order of their names. Default: the one in
            ``data_dir``; if there is none, or for ``"drawn"``, five drawn textures.
        digits: ``"mnist"``, or ``"embedded"``: scikit-learn's 1,797 digits at three times their size, without any
            download (1,297 / 200 / 300 rows).
        missing: the share of the training and validation rows' pictures that are missing at random. A row that would
            have none keeps one.
        validation: the number of training digits held out for validation; default 5,000, or 200 of the embedded ones.
        seed: the seed of the composition and of the missingness.

    Raises:
        DataError: no folder, not five pictures in it, pictures too small; and as for MNIST. SettingsError: a share
            outside [0, 1), unknown digits, or so many validation rows that none is left to train on.
    """
    if not 0 <= missing < 1:
        raise SettingsError(f"the share of missing cells must be at least 0 and below 1, not {missing}")
    if digits not in ("mnist", "embedded"):
        raise SettingsError(f"digits are 'mnist' or 'embedded', not {digits!r}")
    source = mnist.load(data_dir) if digits == "mnist" else _embedded()
    held = validation or (VALIDATION if digits == "mnist" else len(source.validation))
    parts = source.train, source.validation, source.test
    images, labels = ([torch.as_tensor(part.columns[name]) for part in parts] for name in ("image", "label"))
    ink = torch.cat(images[:2])[:, 0] > INK, images[2][:, 0] > INK
    label = torch.cat(labels[:2]), labels[2]
    if not 0 < held < len(label[0]):
        raise SettingsError(f"validation must be between 1 and {len(label[0]) - 1} rows, not {held}")
    columns, fingerprint = _composed(_backgrounds(data_dir, backgrounds), ink, label, seed)
    first, second = len(label[0]) - held, len(label[0])
    return Dataset(
        "polymnist",
        _table(columns, slice(first), missing, [seed, 5]),
        _table(columns, slice(first, second), missing, [seed, 6]),
        _table(columns, slice(second, None)),
        codecs={"label": class_names(tuple("0123456789"))},
        vocabulary_id=fingerprint[:16],
    )


def _composed(
    pictures: Sequence[np.ndarray], ink: Sequence[Tensor], label: Sequence[Tensor], seed: int
) -> tuple[dict[str, Column], str]:
    """Every column (training rows, then test rows), and a fingerprint of the data."""
    key = hashlib.sha256(f"polymnist {VERSION} {seed}".encode())
    for values in (*pictures, *(part.numpy() for part in (*ink, *label))):
        key.update(np.ascontiguousarray(values).data)
    fingerprint, rows = key.hexdigest(), sum(map(len, label))

    def made(i: int) -> Iterator[np.ndarray]:
        for split in (0, 1):
            yield from compose(pictures[i], ink[split], label[split], [seed, i, split])

    columns: dict[str, Column] = {
        name: cached_array(
            cache_directory() / "polymnist",
            hashlib.sha256(f"{fingerprint} {name}".encode()).hexdigest(),
            (rows, 3, SIDE, SIDE),
            partial(made, i),
            f"composing {rows:,} pictures of PolyMNIST's {name}",
        )
        for i, name in enumerate(MODALITIES)
    }
    return columns | {"label": torch.cat(list(label))}, fingerprint


def compose(
    background: UInt8[np.ndarray, "height width 3"],
    ink: Bool[Tensor, "rows 28 28"],
    label: Int[Tensor, "rows"],
    seed: Sequence[int],
) -> Iterator[UInt8[np.ndarray, "3 28 28"]]:
    """One modality's pictures: for each row, a digit of that row's label on a crop of the background.

    Args:
        background: the picture whose crops are shown.
        ink: the pixels of each digit.
        label: the class of each digit, and of each row.
        seed: the seed of the permutations and crops.
    """
    random = np.random.RandomState(list(seed))
    digit = np.empty(len(label), dtype=np.int64)
    classes = label.numpy()
    for one in range(10):
        own = np.flatnonzero(classes == one)
        digit[own] = random.permutation(own)
    height, width = background.shape[:2]
    left, top = (random.randint(0, size - SIDE, len(label)) for size in (width, height))
    crops = np.lib.stride_tricks.sliding_window_view(background, (SIDE, SIDE), axis=(0, 1))  # pyright: ignore
    for start in range(0, len(label), CHUNK):
        rows = slice(start, start + CHUNK)
        inverted = ink[torch.from_numpy(digit[rows])].numpy()[:, None]
        crop = crops[top[rows], left[rows]]
        yield from np.where(inverted, 255 - crop, crop)


def pictures_in(folder: Path) -> list[UInt8[np.ndarray, "height width 3"]]:
    """The five pictures of a folder, in order of their names.

    Raises:
        DataError: no such folder, not five pictures, or one that cannot be read or is too small.
    """
    from PIL import Image, UnidentifiedImageError

    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")) if folder else []
    if len(found) != len(MODALITIES):
        raise DataError(f"{folder} has {len(found)} pictures (.jpg, .png); PolyMNIST needs {len(MODALITIES)}, m0 to m4")
    pictures = []
    for path in found:
        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"cannot read the picture {path} ({error}): replace it") from None
        if path.stem in ENLARGED:
            picture = picture.resize(ENLARGED[path.stem], Image.Resampling.LANCZOS)
        if min(picture.size) <= SIDE:
            raise DataError(f"{path} is {picture.width}×{picture.height}; crops of {SIDE}×{SIDE} need a larger picture")
        pictures.append(np.asarray(picture))
    return pictures


def _backgrounds(data_dir: str | PathLike[str] | None, backgrounds: str | None) -> list[np.ndarray]:
    if backgrounds not in (None, "drawn"):
        return pictures_in(Path(backgrounds).expanduser())
    given = data_directory(data_dir)
    if backgrounds is None and given and (folder := given / FOLDER).is_dir():
        return pictures_in(folder)
    if backgrounds is None:
        log.info("PolyMNIST on drawn textures: no folder %s is given", FOLDER)
    return textures()


def _embedded() -> Dataset:
    """scikit-learn's digits in MNIST's columns: 8×8 pixels enlarged to 24×24, centred."""

    def enlarged(table: Table) -> Table:
        levels = (torch.as_tensor(table.columns["image"]) * 255).round().to(torch.uint8)
        large = levels.repeat_interleave(3, 2).repeat_interleave(3, 3)
        image = torch.zeros(len(large), 1, SIDE, SIDE, dtype=torch.uint8)
        image[:, :, 2:-2, 2:-2] = large
        return Table({"image": image, "label": table.columns["label"]})

    data = embedded.load()
    return Dataset("digits", enlarged(data.train), enlarged(data.validation), enlarged(data.test))


def _table(columns: dict[str, Column], rows: slice, missing: float = 0.0, seed: Sequence[int] = ()) -> Table:
    own: dict[str, Column] = {name: column[rows] for name, column in columns.items()}
    if not missing:
        return Table(own)
    random, count = np.random.RandomState(list(seed)), len(own["label"])
    present = torch.from_numpy(random.rand(count, len(MODALITIES)) >= missing)
    kept = torch.from_numpy(random.randint(0, len(MODALITIES), count))
    present[torch.arange(count), kept] |= ~present.any(1)
    return Table(own, {name: present[:, i] for i, name in enumerate(MODALITIES)})
