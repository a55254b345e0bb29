"""Copies of rows: rows that equal another one in all numbers that both have, and so show its missing ones."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

__all__ = ["TOGETHER", "Copies"]

ALIKE = 1e-6  # mean squared difference, in variances, below which rows are equal
SHARED = 0.5  # least share of a table's numbers that both rows have: rows with few numbers equal many others
FARTHEST = 1e4  # numbers further from the mean, in standard deviations, are compared as this: squares lose digits
TOGETHER = 256  # rows compared with all others at once


class Copies:
    """The rows among which copies are searched.

    Args:
        x: standardised numbers; those that are missing may have any value.
        here: which numbers are observed.

    >>> x = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]])
    >>> Copies(x, ~np.isnan(x)).numbers_of(np.array([1]), np.array([[True, True, False]]))
    array([[1., 2., 3.]])
    """

    def __init__(self, x: Float[np.ndarray, "rows numbers"], here: Bool[np.ndarray, "rows numbers"]):
        self._here = torch.from_numpy(here).double()
        self._x = torch.from_numpy(np.where(here, x, 0.0))
        self._near = self._x.clamp(-FARTHEST, FARTHEST)
        self._squares = self._near.square()

    def numbers_of(
        self, rows: Int[np.ndarray, " queries"], seen: Bool[np.ndarray, "queries numbers"]
    ) -> Float[np.ndarray, "queries numbers"]:
        """Each number's mean over the copies of these rows; NaN where no copy has it.

        Args:
            rows: indices of rows.
            seen: which of their observed numbers are compared; the others may only be found.
        """
        found = np.full(seen.shape, np.nan)
        for start in range(0, len(rows), TOGETHER):
            part = torch.from_numpy(rows[start : start + TOGETHER])
            here = torch.from_numpy(seen[start : start + TOGETHER]).double()
            x, shared = here * self._near[part], here @ self._here.T
            apart = x.square() @ self._here.T - 2 * x @ self._near.T + here @ self._squares.T
            alike = (apart < ALIKE * shared) & (shared >= SHARED * here.shape[1])
            alike[torch.arange(len(part)), part] = False
            number, total = alike.double() @ self._here, alike.double() @ self._x
            found[start : start + TOGETHER] = torch.where(number > 0, total / number, torch.nan).numpy()
        return found
