"""Six aligned modalities of one photograph of a face (Sec. 6): itself, and five transformations of it."""

import hashlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from os import PathLike

import numpy as np
import torch

from mvae.data.cache import cached_array
from mvae.data.dataset import Dataset
from mvae.data.download import cache_directory
from mvae.data.table import Table
from mvae.paper.attributes import Pictures
from mvae.paper.datasets import celeba
from mvae.paper.transformations import edges, grayscale, mask, obscured, watermarked

VERSION = 1  # of the transformations: part of the cache's name
PACKAGES = ("scikit-image", "dlib-bin", "face_recognition_models", "pillow")  # whose versions may change a pixel
CHANNELS = {"gray": 1, "edges": 1, "mask": 1, "obscured": 3, "watermarked": 3}  # in the order of the cache
MODALITIES = ("image", *CHANNELS)

MaskOf = Callable[[int, np.ndarray], np.ndarray | None]


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Load CelebA's images with their transformations, in CelebA's splits.

    Columns, all uint8 and memory-mapped from a cache that is made once (see `mvae.paper.datasets.celeba`; 36 KB and
    about 13 ms per row): ``image`` ``rows 3 64 64``; ``gray``, ``edges``, ``mask`` ``rows 1 64 64``; ``obscured``,
    ``watermarked``
    ``rows 3 64 64``. Rows in which no face is found have no ``mask``.

    Args:
        data_dir: the folder of CelebA, as for `mvae.paper.datasets.celeba.load`.

    Raises:
        DataError: as `mvae.paper.datasets.celeba.load`.
        MissingDependencyError: the cache is yet to be made, and the extra ``vision`` is absent.
    """
    return transformed("vision", celeba.pictures(data_dir), lambda _, image: mask(image))


def transformed(name: str, found: Pictures, mask_of: MaskOf) -> Dataset:
    """These images with their transformations, from a cache of that name.

    Args:
        name: the name of the dataset.
        found: the images.
        mask_of: row and image ``64 64 3`` → mask ``64 64``, or None if there is no face.

    Raises:
        DataError: the cache cannot be written. MissingDependencyError: it is yet to be made, and
            scikit-image is absent.
    """
    rows = len(found.images)
    versions = [f"{package} {_version(package)}" for package in PACKAGES]
    fingerprint = hashlib.sha256("\n".join([name, str(VERSION), found.fingerprint, *versions]).encode()).hexdigest()
    channels = sum(CHANNELS.values())
    made = cached_array(
        cache_directory() / name,
        fingerprint,
        (rows, channels, *found.images.shape[2:]),
        lambda: (_transform(row, found.images[row], mask_of) for row in range(rows)),
        f"transforming {rows:,} images (edges, masks, …)",
    )
    places, first = {}, 0
    for modality, count in CHANNELS.items():
        places[modality] = slice(first, first + count)
        first += count
    # A mask is never empty: an empty one means that there is none. Cached, so that not all are read at every start.
    present = cached_array(
        cache_directory() / name,
        hashlib.sha256(f"which rows have a mask: {fingerprint}".encode()).hexdigest(),
        (rows, 1),
        lambda: (made[row, places["mask"]].any(keepdims=True)[0, 0].astype(np.uint8) for row in range(rows)),
        "looking which rows have a mask",
    )
    has_mask = torch.from_numpy(np.array(present[:, 0]) > 0)
    train, validation, test = (
        Table(
            {"image": found.images[part]} | {modality: made[part, place] for modality, place in places.items()},
            present={"mask": has_mask[part]},
        )
        for part in found.parts()
    )
    return Dataset(name, train, validation, test)


def _transform(row: int, image: np.ndarray, mask_of: MaskOf) -> np.ndarray:
    """All five transformations, stacked along the axis of channels; a missing mask is black."""
    picture = np.ascontiguousarray(image.transpose(1, 2, 0))
    landscape = mask_of(row, picture)
    if landscape is None:
        landscape = np.zeros(picture.shape[:2], np.uint8)
    grey = (grayscale(picture), edges(picture), landscape)
    colour = (obscured(picture), watermarked(picture))
    return np.concatenate([np.stack(grey), *(one.transpose(2, 0, 1) for one in colour)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
