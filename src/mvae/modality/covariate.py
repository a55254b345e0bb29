"""Covariates: what encoders and decoders are conditioned on, such as a batch, a donor, an age or a depth."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.data.columns import as_column, as_tensor
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError, abridged

__all__ = ["Covariate"]


class Covariate(nn.Module):
    """A column that is always given and never generated; it is listed among a model's modalities, by its name.

    Networks whose ``forward`` has a second argument get all covariates of their model there, side by side,
    ``rows features``: categories one-hot, numbers in standard deviations from their training mean.

    Args:
        categories: their names, in the order of their codes 0 … K−1, or their number. None: real numbers.
        unknown: whether a row's category may be missing or not listed. It is then passed as zeros, and training needs
            such rows: a model knows nothing about what it never saw.
        features: how many numbers a row of a real covariate has.

    Raises:
        SettingsError: fewer than two categories, or two with the same name; no features.

    >>> Covariate(["b1", "b2"])
    Covariate('b1', 'b2')
    >>> Covariate(["b1", "b2"]).codes(["b2", "b1"])
    tensor([1, 0])
    """

    def __init__(self, categories: Iterable[str | int] | int | None = None, unknown: bool = False, features: int = 1):
        super().__init__()
        if isinstance(categories, Integral):
            categories = range(int(categories))
        elif isinstance(categories, str) or not isinstance(categories, Iterable | None):
            raise SettingsError(f"a covariate's categories are a list of names, not {abridged(categories)}")
        names = () if categories is None else categories
        self.categories = tuple(name.item() if isinstance(name, np.generic) else name for name in names)
        if categories is not None and len(set(self.categories)) < max(2, len(self.categories)):
            raise SettingsError(
                f"a covariate needs at least two categories, each listed once, not {abridged(self.categories)}"
            )
        if features < 1:
            raise SettingsError(f"a covariate needs one feature at least, not {features}")
        self.unknown, self.width = unknown, len(self.categories) or features
        self.mean = nn.Buffer(torch.zeros(self.width, dtype=torch.float64))
        self.std = nn.Buffer(torch.zeros(self.width, dtype=torch.float64))  # 0: not fitted

    def extra_repr(self) -> str:
        """The categories, or the number of features."""
        return abridged(self.categories)[1:-1] if self.categories else f"features={self.width}"

    def codes(self, values: Any, name: str = "covariate") -> Tensor:
        """Names of categories as codes, −1 for one that is not listed; other values stay as they are.

        A tensor already holds codes.

        Raises:
            DataError: a category that is not listed, with its row, unless ``unknown`` allows it; text where numbers are
                needed, or the reverse.
        """
        if not self.categories or isinstance(values, Tensor):
            return _numbers(values, name)
        array = np.asarray(values)
        if array.dtype.kind not in "OUS" and self._numbered:
            return _numbers(values, name)
        self._require_alike(array, name)
        if array.ndim != 1:
            raise DataError(f"covariate {name!r}: rows of shape {array.shape[1:]}; one of {self._listed} is needed")
        if array.dtype.kind == "S" and any(isinstance(category, str) for category in self.categories):
            array = np.char.decode(array, "utf-8")
        place = {category: code for code, category in enumerate(self.categories)}
        found = [place.get(value, -1) for value in array.tolist()]
        if -1 in found and not self.unknown:
            row = found.index(-1)
            raise DataError(
                f"covariate {name!r}, row {row}: the category {array.tolist()[row]!r} is not among {self._listed}: "
                "correct it, or train with Covariate(..., unknown=True)"
            )
        return torch.tensor(found)

    def _require_alike(self, array: np.ndarray, name: str) -> None:
        """Raises DataError if the values are numbers and all categories text, or the reverse."""
        text = {isinstance(category, str) for category in self.categories}
        found = {"U": True, "S": True, "O": None}.get(array.dtype.kind, False)
        if array.size and found is not None and found not in text:
            kinds = ("numbers", "text")
            raise DataError(
                f"covariate {name!r} holds {kinds[found]}, its categories are {kinds[not found]} ({self._listed}): "
                "give these, or their codes as a tensor"
            )

    def check(self, table: Table, name: str) -> None:
        """Raises DataError unless every row has a possible value."""
        if name not in table.columns:
            raise DataError(
                f"the table has no column {name!r}: it is needed in every row, as a covariate of this model"
            )
        has, column = table.has(name), as_tensor(table.columns[name])
        if not has.all() and not (self.unknown and self.categories):
            other = ", or train with Covariate(..., unknown=True)" if self.categories else ""
            raise DataError(f"covariate {name!r}, row {int((~has).nonzero()[0])}: it is needed in every row{other}")
        if self.categories:
            fits, possible = column.dim() == 1, f"codes 0 to {self.width - 1} of {self._listed}"
            column, least = column.double(), -1 if self.unknown else 0
            bad = (column < least) | (column >= self.width) | (column != column.round())
        else:
            fits, possible = column[0].numel() == self.width, f"{self.width} finite numbers"
            bad = ~column.reshape(len(column), -1).isfinite().all(1)
        if not fits:
            raise DataError(f"covariate {name!r}: rows of shape {tuple(column.shape[1:])}; {possible} are needed")
        if (bad := bad & has.to(bad.device)).any():
            row = int(bad.nonzero()[0, 0])
            unlisted = bool(self.categories) and float(column[row]) == -1  # as `codes` and `read_anndata` mark it
            wrong = f"its category is not among {self._listed}: correct it, or train with Covariate(..., unknown=True)"
            raise DataError(f"covariate {name!r}, row {row}: {wrong if unlisted else f'{possible} are needed'}")

    def fit(self, table: Table, name: str) -> None:
        """Fit mean and standard deviation to a real covariate's training values, unless an earlier training has."""
        if self.categories or bool((self.std > 0).all()):
            return
        x = as_tensor(table.columns[name]).double().reshape(len(table), -1)
        mean, std = x.mean(0), x.std(0, correction=0)
        self.mean, self.std = mean.to(self.mean), torch.where(std > 0, std, 1.0).to(self.std)

    def encode(
        self, column: Shaped[Tensor, "rows *event"], has: Bool[Tensor, "rows"], dtype: torch.dtype
    ) -> Float[Tensor, "rows features"]:
        """The column as the networks take it."""
        if self.categories:
            codes = torch.where(has.to(column.device), column.long(), -1) + 1
            return F.one_hot(codes, self.width + 1)[:, 1:].to(dtype)
        x = column.reshape(len(column), -1).double()  # a large offset loses no digits
        return ((x - self.mean) / torch.where(self.std > 0, self.std, 1.0)).to(dtype)

    @property
    def _numbered(self) -> bool:
        return self.categories == tuple(range(self.width))

    @property
    def _listed(self) -> str:
        return ", ".join(map(str, self.categories[:10])) + (" …" if self.width > 10 else "")


def _numbers(values: Any, name: str) -> Tensor:
    """Numbers as a tensor.

    Raises:
        DataError: values that are not numbers, or a container in which some are missing.
    """
    column, present = as_column(name, values)
    if present is not None and not present.all():
        raise DataError(f"covariate {name!r}, row {int(np.argmin(present))}: it is needed in every row")
    return as_tensor(column)
