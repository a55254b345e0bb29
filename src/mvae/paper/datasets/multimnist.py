"""MultiMNIST (Sec. 4, App. A): 0 to 4 MNIST digits at fixed places on a 50×50 canvas, and the string they spell.

App. A leaves the composition to the reader; ours is computed in integers, so that it is the same on every machine:

- A digit of 28×28 becomes 21×21 (28 / 1.3, rounded down): every 4 pixels become 3, each the mean of what it covers.
- The four places are the quarters of the canvas' inner 42×42, which touch and never overlap; they are filled in reading
  order (top left, top right, bottom left, bottom right), so that the string is read off from top left to bottom right.
- The number of digits is uniform in 0 … 4 and each digit a uniform draw, with replacement, of the same split of MNIST:
  no handwriting of a validation or test row is ever seen in training.

It is composed afresh at each start, in less than a second, and not saved: reading and verifying its 175 MB would take
longer.
"""

from os import PathLike

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from mvae.data.codecs import Codec
from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.paper.datasets import mnist

SEED = 14_02_2018
SIDE, SMALL, MARGIN = 50, 21, 4
PLACES = tuple((top, left) for top in (MARGIN, MARGIN + SMALL) for left in (MARGIN, MARGIN + SMALL))
LENGTH = len(PLACES)  # the most digits of a string
CHUNK = 500  # digits shrunk at once: a few megabytes, which stay in a processor's cache
STOP = 10  # the token after the last digit: 0 … 9 are the digits


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Compose MultiMNIST from MNIST: 50,000 / 10,000 / 10,000 rows, each split from the same split of MNIST.

    Columns: ``image`` uint8 ``rows 1 50 50``, ``string`` int64 ``rows 4``: the digits, then `STOP` in the places left
    (see `mvae.modality.strings`). Strings are printed as their digits, "1773", and the empty string as nothing.

    Args:
        data_dir: the folder of MNIST, as for `mvae.paper.datasets.mnist.load`; nothing is written there.

    Raises:
        DataError: as for MNIST.
    """
    digits = mnist.load(data_dir)
    splits = (digits.train, digits.validation, digits.test)
    train, validation, test = (
        compose(
            torch.as_tensor(table.columns["image"]), torch.as_tensor(table.columns["label"]), len(table), SEED + part
        )
        for part, table in enumerate(splits)
    )
    return Dataset("multimnist", train, validation, test, codecs={"string": CODEC})


def compose(images: UInt8[Tensor, "digits 1 28 28"], labels: Int64[Tensor, "digits"], rows: int, seed: int) -> Table:
    """Rows of 0 to 4 of these digits each; columns as for `load`.

    >>> compose(torch.zeros(5, 1, 28, 28, dtype=torch.uint8), torch.arange(5), rows=3, seed=0)
    Table(3 rows; image: 1×50×50 uint8; string: 4 int64)
    """
    # RandomState, not default_rng: NumPy promises its stream never changes, so the dataset never does.
    random = np.random.RandomState(seed)
    count = torch.from_numpy(random.randint(0, LENGTH + 1, rows, dtype=np.int64))
    drawn = torch.from_numpy(random.randint(0, len(labels), (rows, LENGTH), dtype=np.int64))
    small = torch.cat([_shrunk(part) for part in images[:, 0].split(CHUNK)])
    canvas = torch.zeros(rows, 1, SIDE, SIDE, dtype=torch.uint8)
    for place, (top, left) in enumerate(PLACES):
        filled = (count > place).nonzero().flatten()
        canvas[filled, 0, top : top + SMALL, left : left + SMALL] = small[drawn[filled, place]]
    string = torch.where(torch.arange(LENGTH) < count[:, None], labels[drawn], STOP)
    return Table({"image": canvas, "string": string})


def _shrunk(images: UInt8[Tensor, "n 28 28"]) -> UInt8[Tensor, "n 21 21"]:
    """Shrink by 4 to 3 in each direction: a new pixel is the mean of what it covers, in sixteenths, rounded half up."""
    across = _four_to_three(images.short())
    both = _four_to_three(across.transpose(1, 2)).transpose(1, 2)
    return (both + 8).div(16, rounding_mode="floor").to(torch.uint8)


def _four_to_three(levels: Tensor) -> Tensor:
    """Every 4 levels in a row as 3, each the mean over 4/3 pixels, in quarters."""
    a, b, c, d = levels.unflatten(-1, (-1, 4)).unbind(-1)
    return torch.stack([3 * a + b, 2 * b + 2 * c, c + 3 * d], -1).flatten(-2)


def _read(text: str) -> Tensor:
    if len(text) > LENGTH or any(character not in "0123456789" for character in text):
        raise ValueError(f"up to {LENGTH} digits, for example 1773 (none is the empty string)")
    return torch.tensor([*map(int, text), *[STOP] * (LENGTH - len(text))])


def _write(string: Tensor) -> str:
    tokens = string.tolist()
    return "".join(map(str, tokens[: tokens.index(STOP)] if STOP in tokens else tokens))


CODEC = Codec(_read, _write)  # "1773"; the empty string as nothing
