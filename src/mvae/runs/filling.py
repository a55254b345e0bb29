"""Answers filled into the missing cells of a table's rows, with bounds and probabilities as added columns."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvae.data.tables.cells import is_text
from mvae.data.tables.column import CLASSED, TableColumn
from mvae.data.tables.frames import DataFrame, pandas, stacked
from mvae.data.tables.schema import TableSchema
from mvae.runs.answers import Answer

__all__ = ["ENDS", "Filler"]

ENDS = ("low", "high", "p")  # suffixes of the columns that are added for a filled-in one

Kept = dict[str, dict[str, np.ndarray]]  # modality → name → array whose last two axes are rows and fields


@dataclass(frozen=True, eq=False)
class Filler:
    """Fills the missing cells of a table.

    Answers are computed for few rows at a time, because each row has many samples. They are filled in for many rows at
    a time, because a data frame costs the same for few rows as for many: `kept` reduces the answers to what is filled
    in.

    Args:
        schema: what the columns mean.
        draws: the number of draws that are filled in, one table for each; 0: the points.
        interval: the share of the probability between the added bounds; None: nothing is added.
        lacking: the columns for which bounds and probabilities are added.
    """

    schema: TableSchema
    draws: int = 0
    interval: float | None = None
    lacking: Set[str] = frozenset()

    def kept(self, found: Mapping[str, Answer]) -> Kept:
        """The numbers of these answers that are filled in, and what is added."""
        made: Kept = {}
        for name, answer in found.items():
            made[name] = own = {"numbers": answer.draws[: self.draws] if self.draws else answer.point[None]}
            if self.interval is None:
                continue
            own |= {end: np.full(answer.point.shape, np.nan) for end in ENDS}
            wanted = [i for i, column in enumerate(self.schema.modalities[name]) if column in self.lacking]
            if numbers := [i for i in wanted if i not in answer.probabilities]:
                own["low"][:, numbers], own["high"][:, numbers] = answer.between(self.interval, numbers)
            for i in set(wanted) & set(answer.probabilities):
                code = answer.point[:, i, None].astype(int)
                own["p"][:, i] = np.take_along_axis(answer.probabilities[i], code, 1)[:, 0]
        return made

    def filled(self, frame: DataFrame, rows: np.ndarray, parts: Sequence[Kept]) -> DataFrame:
        """These rows filled in; draws are one below the other, with the columns ``.imp`` and ``.id``.

        Args:
            frame: the rows.
            rows: the numbers of those with missing cells, at least one.
            parts: what was kept of the answers for these, in their order.
        """
        place = np.zeros(len(frame), int)  # of each row among the answers; any will do for a row without missing cells
        place[rows] = np.arange(len(rows))
        whole = {
            name: {key: np.concatenate([part[name][key] for part in parts], -2)[..., place, :] for key in own}
            for name, own in parts[0].items()
        }
        if not self.draws:
            return self._one(frame, whole, 0)
        return stacked(list(self._each_draw(frame, whole)))

    def _each_draw(self, frame: DataFrame, kept: Kept) -> Iterator[DataFrame]:
        for i in range(self.draws):
            one = self._one(frame, kept, i)
            one.insert(0, ".imp", i + 1)
            one.insert(1, ".id", frame.index)
            yield one

    def _one(self, frame: DataFrame, kept: Kept, number: int) -> DataFrame:
        """The rows with one of the draws, or the points, in their missing cells, and the added columns."""
        made, beside = {}, {}
        homes = {name: (m, i) for m in kept for i, name in enumerate(self.schema.modalities[m])}
        for name in frame.columns:
            column, series = self.schema.named.get(name), frame[name]
            made[name] = series
            if column is not None and column.kind == "constant":
                made[name] = column.filled(series, np.zeros(len(series)))
            if column is None or name not in homes:
                continue
            modality, place = homes[name]
            own = kept[modality]
            made[name] = column.filled(series, own["numbers"][number][:, place])
            if self.interval is None or name not in self.lacking:
                continue
            gone = ~column.present(series)
            if column.kind in CLASSED:
                beside[f"{name}.p"] = np.where(gone, own["p"][:, place], np.nan)
            else:
                for side in ("low", "high"):
                    beside[f"{name}.{side}"] = _shown(column, series, own[side][:, place], gone)
        pd = pandas()
        return pd.concat([pd.DataFrame(made, index=frame.index), pd.DataFrame(beside, index=frame.index)], axis=1)


def _shown(column: TableColumn, series: Any, numbers: np.ndarray, rows: np.ndarray) -> Any:
    """A bound as a separate column, empty where the cell is observed."""
    cells = pandas().Series(column.decode_as(series, numbers), index=series.index)
    return cells.where(rows, "" if is_text(series) else None) if cells.dtype == object else cells.where(rows)
