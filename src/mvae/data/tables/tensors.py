"""A user's table as `mvae.Table`s for a model: encoded part by part, and kept on disk if it is large."""

from collections.abc import Mapping

import numpy as np

from mvae.data.columns import room_for
from mvae.data.table import Column, Table
from mvae.data.tables.frames import Frames
from mvae.data.tables.schema import TableSchema
from mvae.errors import DataError

__all__ = ["arrays_of", "encoded_parts", "holds_fields", "observed_of", "table_of"]


def holds_fields(column: Column) -> bool:
    """Is this a column of fields, ``rows fields``, rather than of pictures or texts?"""
    return column.ndim == 2 and "float" in str(column.dtype)


def observed_of(table: Table, name: str) -> np.ndarray:
    """The mask of a column's observed values: ``rows fields`` for fields, ``rows`` for pictures and texts."""
    if not holds_fields(table.columns[name]):
        return table.has(name).numpy()
    rows = table.has(name).numpy()[:, None]
    return np.broadcast_to(rows, table.columns[name].shape) & np.asarray(table.observed.get(name, rows))


def encoded_parts(frames: Frames, schema: TableSchema, part_of: np.ndarray, parts: int) -> list[Table]:
    """Encode a table and divide it into parts, without rows with nothing observed; read once, in bounded memory.

    Args:
        frames: the table.
        schema: the meaning of its columns.
        part_of: the part of each row, ``rows``.
        parts: number of parts.

    Raises:
        DataError: a part has no row with an observed value, or the table changed while it was read.

    >>> from mvae.data.tables.frames import of_frame
    >>> frames = of_frame({"age": [41.5, 3.25, None], "sex": ["f", None, "m"]})
    >>> encoded_parts(frames, TableSchema.learn(frames), np.array([0, 0, 1]), 2)[0]
    Table(2 rows; table: 2 float64, 1 value missing)
    """
    sizes = np.bincount(part_of, minlength=parts)
    columns: list[dict[str, np.ndarray]] = [{} for _ in range(parts)]
    masks: list[dict[str, np.ndarray]] = [{} for _ in range(parts)]
    filled, start = [0] * parts, 0
    for frame, values, present in schema.encoded(frames):
        here, home = _holds(present), part_of[start : start + len(frame)]
        if len(home) < len(frame):
            raise DataError(f"{frames.where} has more rows than a moment ago: was it written to?")
        for part in range(parts):
            rows = here & (home == part)
            end = filled[part] + int(rows.sum())
            for name in values:
                for made, chosen in ((columns[part], values[name][rows]), (masks[part], present[name][rows])):
                    if name not in made:
                        made[name] = room_for((int(sizes[part]), *chosen.shape[1:]), chosen.dtype)
                    made[name][filled[part] : end] = chosen
            filled[part] = end
        start += len(frame)
    if start < len(part_of):
        raise DataError(f"{frames.where} has fewer rows than a moment ago: was it written to?")
    if not all(filled):
        raise DataError(f"{frames.where}: one part of its rows has no value that a model sees: give more rows")
    return [
        Table(
            {name: column[:size] for name, column in own.items()}, {name: mask[:size] for name, mask in there.items()}
        )
        for own, there, size in zip(columns, masks, filled, strict=True)
    ]


def table_of(values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]) -> tuple[Table | None, np.ndarray]:
    """Turn the output of `TableSchema.encode` into a table of the rows with observed values, and the mask of these.

    The table is None if there are no such rows.
    """
    here = _holds(present)
    if not here.any():
        return None, here
    return Table({n: v[here] for n, v in values.items()}, {n: m[here] for n, m in present.items()}), here


def arrays_of(table: Table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns of a table and the masks of their observed values, as `TableSchema.encode` gives them.

    >>> values, present = arrays_of(Table({"hb": np.array([[9.5], [8.0]])}))
    >>> values["hb"].tolist(), present["hb"].tolist()
    ([[9.5], [8.0]], [[True], [True]])
    """
    return {n: np.asarray(c) for n, c in table.columns.items()}, {n: observed_of(table, n) for n in table.names}


def _holds(present: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mask of rows with any observed value."""
    return np.logical_or.reduce([mask.reshape(len(mask), -1).any(1) for mask in present.values()])
