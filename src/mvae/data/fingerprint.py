"""A fingerprint of some of a table's rows, to detect that the table has changed."""

import hashlib
from collections.abc import Iterable

import torch

from mvae.data.table import Table

__all__ = ["fingerprint"]

ROWS = 256  # rows that are read


def fingerprint(table: Table, names: Iterable[str]) -> str:
    """A hash of the values and masks of these columns in a few hundred evenly spaced rows.

    Other rows are not read. Missing values and the precision of numbers do not affect it.

    >>> one, other = (Table({"age": torch.tensor([30.0, last])}) for last in (40.0, 41.0))
    >>> fingerprint(one, ["age"]) == fingerprint(one, ["age"]), fingerprint(one, ["age"]) == fingerprint(other, ["age"])
    (True, False)
    """
    count = min(ROWS, len(table))
    part = table.take(torch.arange(count) * (len(table) - 1) // max(1, count - 1))
    found, filled = hashlib.blake2b(str(len(table)).encode(), digest_size=8), part.filled()
    for name in sorted(set(names) & set(part.names)):
        column = filled.select_rows(name, torch.arange(len(part)))
        column = column.float() if column.is_floating_point() else column
        found.update(f"{name} {tuple(column.shape)}".encode())
        for values in (column, part.has(name), part.observed.get(name, torch.ones(0))):
            found.update(values.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
