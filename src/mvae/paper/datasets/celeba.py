"""CelebA: aligned and cropped photographs of faces with attributes, in the layout of the original distribution."""

import hashlib
import io
import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.cache import cached_array
from mvae.data.dataset import Dataset
from mvae.data.download import cache_directory, data_directory
from mvae.data.picture import fitted, open_bounded
from mvae.errors import DataError
from mvae.paper.attributes import ATTRIBUTES, Pictures

PUBLISHED = 202_599  # images of the whole dataset
SIDE = 64
IMAGES, ATTRIBUTE_LIST, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
FOLDERS = ("celeba", "celeba-9k", ".")  # of the data directory
PARTS = (".", "Img", "Anno", "Eval")  # of the original distribution
SPLITS = ("train", "validation", "test")
WHERE = (
    f"get {IMAGES}.zip, {ATTRIBUTE_LIST} and {PARTITION} from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html "
    "(its licence is for non-commercial research only), put them into a folder celeba, and name the folder that holds "
    "it with --data-dir or MVAE_DATA. Drawn faces need no download: mvae train faces"
)
MOST_BYTES = 1 << 26  # of an image file
log = logging.getLogger("mvae.data")
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load CelebA, or whatever part of its images is present, at 64×64.

    Columns: ``image`` uint8 ``rows 3 64 64``, memory-mapped from a cache that is made once (in ``$MVAE_CACHE``, default
    ``~/.cache/mvae``); ``attributes`` boolean ``rows 18``, in the order of `mvae.paper.attributes.ATTRIBUTES`.

    Args:
        data_dir: a directory that holds ``img_align_celeba.zip`` (or that folder), ``list_attr_celeba.txt`` and
            ``list_eval_partition.txt``, or has a folder ``celeba`` or ``celeba-9k`` that does; default ``MVAE_DATA``.

    Raises:
        DataError: the files are absent, damaged, or do not fit each other; a split has no image.
    """
    return pictures(data_dir).dataset("celeba")


def pictures(data_dir: str | PathLike[str] | None = None) -> Pictures:
    """The images and attributes of `load`, all splits in one array.

    Raises:
        DataError: as `load`.
    """
    folder = _folder(data_directory(data_dir))
    names, read, stamp = _images(folder)
    values = _attributes(_find(folder, ATTRIBUTE_LIST), names)
    split = _partition(_find(folder, PARTITION), names)
    order = np.lexsort((np.arange(len(names)), split))  # by split, then by name: each split is one piece of the file
    names, values, split = [names[i] for i in order], values[order], split[order]
    counts = np.bincount(split, minlength=3)
    told = ", ".join(f"{count:,} {part}" for count, part in zip(counts, SPLITS, strict=True))
    if len(names) < PUBLISHED:
        log.warning("celeba: %s of %s images are here (%s)", f"{len(names):,}", f"{PUBLISHED:,}", told)
    for count, part in zip(counts, SPLITS, strict=True):
        if not count:
            raise DataError(f"celeba has no {part} image among the {len(names):,} in {folder} ({told}): {WHERE}")
    # Whatever changes the bytes of the cache is part of its name: the images, their order, how they are decoded.
    fingerprint = hashlib.sha256("\n".join([f"bilinear {SIDE}", *(stamp[name] for name in names)]).encode()).hexdigest()
    images = cached_array(
        cache_directory() / "celeba",
        fingerprint,
        (len(names), 3, SIDE, SIDE),
        lambda: (_decode(read, name) for name in names),
        f"decoding {len(names):,} images of CelebA to {SIDE}×{SIDE}",
    )
    train, validation, test = counts.cumsum().tolist()
    return Pictures(images, values, (train, validation, test), fingerprint)


def _folder(directory: Path | None) -> Path:
    """The folder of the images."""
    if directory is None:
        raise DataError(f"celeba is not downloaded by mvae: {WHERE}")
    for folder in (directory / name for name in FOLDERS):
        if any((folder / part / image).exists() for part in PARTS for image in (IMAGES, f"{IMAGES}.zip")):
            return folder
    looked = f"{directory}, {directory / FOLDERS[0]} or {directory / FOLDERS[1]}"
    raise DataError(f"celeba not found: no {IMAGES}.zip and no folder {IMAGES} in {looked}: {WHERE}")


def _find(folder: Path, file: str) -> Path:
    for part in PARTS:
        if (folder / part / file).is_file():
            return folder / part / file
    raise DataError(f"no {file} in {folder}, where the images are: put the original distribution's there")


def _images(folder: Path) -> tuple[list[str], Callable[[str], bytes], dict[str, str]]:
    """The images' names, a function that reads one's bytes, and what distinguishes each from other versions of it."""
    for place in (folder / part / IMAGES for part in PARTS):
        archive = place.with_suffix(".zip")
        if place.is_dir():
            files = [entry for entry in os.scandir(place) if _is_image(entry.name)]
            stamp = {f.name: f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files}
            source, read = place, lambda name, place=place: (place / name).read_bytes()
        elif archive.is_file():
            try:
                opened = zipfile.ZipFile(archive)
            except UNREADABLE as error:
                raise DataError(
                    f"{archive} is not an intact zip archive ({error}): replace it by an intact copy"
                ) from None
            members = {Path(m.filename).name: m for m in opened.infolist() if _is_image(m.filename)}
            for name, member in members.items():
                if member.file_size > MOST_BYTES:
                    raise DataError(f"{archive}: {name} unpacks to {member.file_size:,} bytes: replace the archive")
            stamp = {name: f"{name} {member.file_size} {member.CRC:08x}" for name, member in members.items()}
            source, read = archive, lambda name, zip=opened, members=members: zip.read(members[name])
        else:
            continue
        if not stamp:
            raise DataError(f"{source} holds no .jpg image: replace it by the original distribution's")
        return sorted(stamp), read, stamp
    raise AssertionError("_folder has found one of them")


def _is_image(name: str) -> bool:
    return name.lower().endswith(".jpg") and not Path(name).name.startswith("._")  # what macOS adds to archives


def _decode(read: Callable[[str], bytes], name: str) -> np.ndarray:
    try:
        with open_bounded(io.BytesIO(read(name))) as picture:
            return decoded(picture)
    except (*UNREADABLE, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot decode the image {name} of CelebA ({reason}): replace it by an intact copy") from None


def decoded(picture: Any) -> np.ndarray:
    """A Pillow picture with its short side scaled to 64 and its centre cut out, as bytes ``3 64 64`` (App. A).

    >>> from PIL import Image
    >>> decoded(Image.new("RGB", (178, 218))).shape
    (3, 64, 64)
    """
    return np.asarray(fitted(picture.convert("RGB"), SIDE, SIDE)).transpose(2, 0, 1)


def _attributes(path: Path, images: list[str]) -> np.ndarray:
    """The 18 attributes of these images, boolean ``rows 18``.

    The file has the number of rows, then the attributes' names, then per row an image's name and its values, 1 or −1.
    """
    lines = _lines(path)
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise DataError(f"{path} does not begin with a number of rows and the attributes' names: replace the file")
    names = lines[1].split()
    if missing := [name for name in ATTRIBUTES if name not in names]:
        raise DataError(f"{path} has no attribute {', '.join(missing)}: replace it by the original distribution's")
    if len(lines) - 2 != int(lines[0]):
        raise DataError(f"{path} has {len(lines) - 2} rows instead of {int(lines[0])}: it is truncated; replace it")
    columns = [1 + names.index(name) for name in ATTRIBUTES]
    rows = {name: i for i, name in enumerate(images)}
    values = np.zeros((len(images), len(ATTRIBUTES)), np.int8)
    for number, line in enumerate(lines[2:], start=3):
        image, *rest = line.split()
        if len(rest) != len(names):
            raise DataError(f"{path} line {number} has {len(rest)} values instead of {len(names)}: replace the file")
        if image not in rows:
            continue
        for i, column in enumerate(columns):
            if rest[column - 1] not in ("1", "-1"):
                raise DataError(
                    f"{path} line {number}: {ATTRIBUTES[i]} of {image} is {rest[column - 1]!r}, not 1 or -1"
                )
            values[rows[image], i] = int(rest[column - 1])
    _require_listed(path, images, (values != 0).all(1))
    return values > 0


def _partition(path: Path, images: list[str]) -> np.ndarray:
    """The split of these images: 0 train, 1 validation, 2 test."""
    rows = {name: i for i, name in enumerate(images)}
    split = np.full(len(images), -1)
    for number, line in enumerate(_lines(path), start=1):
        image, _, part = line.strip().partition(" ")
        if part.strip() not in ("0", "1", "2"):
            raise DataError(f"{path} line {number}: {line.strip()!r} is not an image and 0, 1 or 2: replace the file")
        if image in rows:
            split[rows[image]] = int(part)
    _require_listed(path, images, split >= 0)
    return split


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}): replace it by the original distribution's") from None


def _require_listed(path: Path, images: list[str], listed: np.ndarray) -> None:
    if not listed.all():
        first = images[int(np.flatnonzero(~listed)[0])]
        raise DataError(
            f"{path} lacks {int((~listed).sum())} of the {len(images)} images that are here ({first} …): replace it by "
            "the list that came with them"
        )
