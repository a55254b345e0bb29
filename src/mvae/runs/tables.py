"""A model of the user's own table: data frames in and out, with the columns' names and types."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvae.arguments import checked_arguments, fits, require_whole_number
from mvae.data.tables.cells import is_text
from mvae.data.tables.column import CLASSED, TableColumn
from mvae.data.tables.frames import DataFrame, Frames, pandas, stacked
from mvae.data.tables.opening import is_table_file, open_table
from mvae.data.tables.schema import TableSchema
from mvae.errors import QueryError, RunError, abridged
from mvae.files import as_path
from mvae.models.base import MultimodalVAE
from mvae.runs import saving
from mvae.runs.answers import AT_ONCE, answers, latents, scores
from mvae.runs.filling import ENDS, Filler
from mvae.runs.neighbours import FEWEST, NEIGHBOURS_AMONG, Correction, correction_of
from mvae.runs.run import opened_model, read_run

__all__ = ["TableModel", "for_file", "load_table"]

log = logging.getLogger("mvae.data")
SHOWN = 20  # columns in the representation of a model
MOST_ROWS = 4096  # the most rows answered together
STEPS = 64  # the most steps of rows that are encoded and filled in together: a data frame costs the same for few rows

Step = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], Correction | None]
"""Values, which of them are observed, and their correction by neighbours, for rows that are answered together."""


@dataclass(frozen=True, eq=False)
class TableModel:
    """A trained model, and what the columns of its table mean (`mvae.fit_table` makes one).

    Every query takes a data frame, a file or columns by name, and returns a data frame with the same index. Columns
    are found by name: order, types and additional columns do not matter. An absent column counts as missing in every
    row. A row with nothing observed gets the prior's answer. Unseen categories are treated as missing, with a warning,
    and stay as they are.

    Args:
        model: a model of modalities of columns, pictures and texts.
        schema: what the columns mean.
    """

    model: MultimodalVAE
    schema: TableSchema

    def __repr__(self) -> str:
        seen = [f"{self.schema.named[name].kind} {name}" for name in self.schema.seen]
        more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
        return f"TableModel({type(self.model).__name__} of {', '.join(seen[:SHOWN])}{more})"

    @checked_arguments("interval", error=QueryError)
    def impute(
        self,
        data: Any,
        *,
        draws: int = 0,
        interval: float | None = None,
        neighbours: bool | None = None,
        samples: int = 400,
        seed: int = 0,
    ) -> DataFrame:
        """The table with its missing cells filled in; observed cells, types and the index stay.

        Args:
            data: the rows.
            draws: 0 fills in the mean of numbers, the most probable class, or the median of ordered classes. Otherwise,
                this number of draws from p(missing | observed), one table below the other, with the columns ``.imp``
                (1 … draws) and ``.id`` (the row's index): the long format of R's mice. ``mice::as.mids`` also needs the
                incomplete rows, with ``.imp`` 0.
            interval: with 0 draws, add columns: NAME.low and NAME.high bound this share of the probability of a filled
                number, NAME.p is the probability of a filled class.
            neighbours: correct numbers by the model's errors on the most similar rows of ``data`` and by the numbers of
                equal rows, if hidden numbers show that this helps (`mvae.runs.neighbours`). A row's answers then depend
                on others, and take longer. Default: in tables of 1,000 to 20,000 rows, if they are read at once (20,000
                rows of more than 104 columns are not).
            samples: samples of z for means, intervals and probabilities.
            seed: seed of the draws.

        Raises:
            QueryError: draws < 0, an interval outside (0, 1), or one together with draws. DataError: not a table, or
                one with none of the columns.
        """
        parts = list(
            self.impute_parts(
                open_table(data), draws=draws, interval=interval, neighbours=neighbours, samples=samples, seed=seed
            )
        )
        whole = parts[0] if len(parts) == 1 else stacked(parts)
        return whole.sort_values(".imp", kind="stable") if draws else whole

    def impute_parts(
        self,
        frames: Frames,
        *,
        draws: int = 0,
        interval: float | None = None,
        neighbours: bool | None = None,
        samples: int = 400,
        seed: int = 0,
    ) -> Iterator[DataFrame]:
        """As `impute`, part by part in bounded memory; each part has all of its draws."""
        require_whole_number("draws", draws, 0)
        _require_share(interval)
        if draws and interval is not None:
            raise QueryError("intervals come with means, not with draws: leave out one, or take quantiles of the draws")
        if neighbours is None:
            neighbours = FEWEST <= frames.rows <= min(NEIGHBOURS_AMONG, frames.at_once)
        lacking = self._lacking(frames) if interval is not None else set[str]()
        _require_free(frames.names, {".imp", ".id"} if draws else {f"{n}.{end}" for n in lacking for end in ENDS})
        most, filler = max(samples, draws), Filler(self.schema, draws, interval, lacking)
        drawn, seen = draws or (0 if interval is None else None), 0
        for frame, rows, parts in self._in_steps(frames, self.rows_at_once(most), max(1, draws), neighbours, seed):
            kept = []
            for values, present, correction in parts:
                found = answers(
                    self.model,
                    values,
                    present,
                    self._columns,
                    most,
                    seed + seen * (draws > 0),
                    draws=drawn,
                    independent=draws > 0,
                )
                kept.append(filler.kept(found if correction is None else correction.applied(self.model, found)))
                seen += 1
            yield filler.filled(frame, rows, kept)

    @checked_arguments("interval", error=QueryError)
    def predict(self, data: Any, of: str, *, interval: float = 0.9, samples: int = 400, seed: int = 0) -> DataFrame:
        """Predict a column from everything else that each row has; the column's own values are not used.

        Args:
            data: the rows.
            of: the column to predict.
            interval: the share of the probability between NAME.low and NAME.high.
            samples: samples of z for means, intervals and probabilities.
            seed: seed of the draws.

        Returns:
            The column, with NAME.low and NAME.high for a number, or the probability of each class as NAME=CLASS.

        Raises:
            QueryError: an interval outside (0, 1), a picture or a text. SettingsError: a column that the model does
                not see. DataError: not a table.
        """
        return pandas().concat(
            list(self.predict_parts(open_table(data), of, interval=interval, samples=samples, seed=seed))
        )

    def predict_parts(
        self, frames: Frames, of: str, *, interval: float = 0.9, samples: int = 400, seed: int = 0
    ) -> Iterator[DataFrame]:
        """As `predict`, part by part in bounded memory."""
        _require_share(interval)
        modality, place = self.schema.home_of(of)
        column = self.schema.named[of]
        if modality not in self.model.names:
            raise QueryError(f"{of!r} is not a column of {', '.join(self.model.names)}, all that the model sees")
        if modality not in self._columns:
            raise QueryError(f"{of!r} holds {column.kind}s, which cannot be predicted: mvae sample draws them")
        for frame, values, present in self._sliced(frames, self.rows_at_once(samples)):
            present[modality][:, place] = False
            draws = 0 if column.kind in CLASSED else None
            found = answers(self.model, values, present, [modality], samples, seed, draws=draws)[modality]
            made = {of: _plainly(column, found.point[:, place])}
            if column.kind in CLASSED:
                made |= {f"{of}={c}": found.probabilities[place][:, i] for i, c in enumerate(column.classes)}
            else:
                bounds = zip(("low", "high"), found.between(interval, place), strict=True)
                made |= {f"{of}.{side}": np.asarray(_plainly(column, bound)) for side, bound in bounds}
            yield pandas().DataFrame(made).set_index(frame.index)

    @checked_arguments(error=QueryError)
    def embed(self, data: Any, *, scale: bool = False) -> DataFrame:
        """The mean of q(z | row) as columns z1, z2 …, and with ``scale`` its standard deviations z1.scale ….

        Raises:
            DataError: not a table, or one with none of the columns.
        """
        return pandas().concat(list(self.embed_parts(open_table(data), scale=scale)))

    def embed_parts(self, frames: Frames, *, scale: bool = False) -> Iterator[DataFrame]:
        """As `embed`, part by part in bounded memory."""
        for frame, values, present in self._encoded(frames, self.rows_at_once(1)):
            mean, spread = latents(self.model, values, present)
            made = {f"z{i + 1}": mean[:, i] for i in range(mean.shape[1])}
            made |= {f"z{i + 1}.scale": spread[:, i] for i in range(mean.shape[1])} if scale else {}
            yield pandas().DataFrame(made, index=frame.index)

    @checked_arguments(error=QueryError)
    def score(self, data: Any, *, samples: int = 100, seed: int = 0) -> DataFrame:
        """log p of each row (nats; low: an outlier), and of each part given the rest, which shows the unusual part.

        Parts are the modalities, or the columns of a single modality. Densities of rows with different missing
        columns are not comparable: compare rows with the same ones, and a part with that part's median over rows.

        Args:
            data: the rows.
            samples: importance samples per row.
            seed: seed of the draws.

        Returns:
            The columns ``log p`` and ``log p(NAME | rest)``; NaN where nothing of it is observed.

        Raises:
            DataError: not a table, or one with none of the columns.
        """
        return pandas().concat(list(self.score_parts(open_table(data), samples=samples, seed=seed)))

    def score_parts(self, frames: Frames, *, samples: int = 100, seed: int = 0) -> Iterator[DataFrame]:
        """As `score`, part by part in bounded memory."""
        for frame, values, present in self._sliced(frames, self.rows_at_once(samples)):
            total, parts = scores(self.model, values, present, samples, seed)
            made = {"log p": total} | {f"log p({name} | rest)": found for name, found in parts.items()}
            yield pandas().DataFrame(made, index=frame.index)

    def save(self, path: str | Path) -> None:
        """Write the model and the meaning of its columns to a file; `mvae.load_table` reads both.

        Raises:
            RunError: the file cannot be written.
        """
        saving.save(self.model, path, layout=self.schema.to_dict())

    @property
    def _columns(self) -> list[str]:
        """The modalities of columns."""
        return [name for name in self.schema.modalities if name not in self.schema.shapes and name in self.model.names]

    def _lacking(self, frames: Frames) -> set[str]:
        """The columns that are missing in some row."""
        return {
            name
            for frame in frames.chunks()
            for name in frame.columns
            if name in self.schema.named and not self.schema.named[name].present(frame[name]).all()
        }

    def _encoded(
        self, frames: Frames, rows: int
    ) -> Iterator[tuple[DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        for frame, values, present in self.schema.encoded(frames, rows):
            seen = [name for name in values if name in self.model.known]  # a VAE has one modality
            yield frame, {name: values[name] for name in seen}, {name: present[name] for name in seen}

    def _sliced(
        self, frames: Frames, step: int
    ) -> Iterator[tuple[DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """As `_encoded`, in parts of ``step`` rows, of which many are encoded together."""
        for frame, values, present in self._encoded(frames, self._together(frames, step)):
            for first in range(0, len(frame), step):
                rows = slice(first, first + step)
                yield frame.iloc[rows], *_rows_of(values, present, rows)

    def _together(self, frames: Frames, step: int, draws: int = 1) -> int:
        """The number of rows to encode and to fill in together, a multiple of ``step``."""
        return step * max(1, min(STEPS, min(self.rows_at_once(draws), frames.at_once) // step))

    def rows_at_once(self, samples: int) -> int:
        """The number of rows that can be answered together in bounded memory, with ``samples`` of z each."""
        samples = require_whole_number("samples", samples, 1)
        return max(1, min(MOST_ROWS, AT_ONCE // (samples * self.schema.width)))

    def _in_steps(
        self, frames: Frames, step: int, draws: int, neighbours: bool, seed: int
    ) -> Iterator[tuple[DataFrame, np.ndarray, Sequence[Step]]]:
        """Rows that are filled in together; the numbers of those that lack something; and these in steps of rows that
        are answered together."""
        most = self._together(frames, step, draws)
        for frame, values, present in self._encoded(frames, NEIGHBOURS_AMONG if neighbours else most):
            if neighbours and len(frame) < FEWEST:
                said = "neighbours need %s rows at once: %s of the table's %s rows are filled in without them"
                log.warning(said, *(f"{number:,}" for number in (FEWEST, len(frame), frames.rows)))
            correction = correction_of(self.model, values, present, self._columns, seed) if neighbours else None
            lacking = self._lacking_rows(frame, present)
            for first in range(0, len(frame), most):
                rows = np.flatnonzero(lacking[first : first + most])
                rows = rows if len(rows) else np.zeros(1, int)  # the form of the answers is needed in any case
                steps = [first + rows[start : start + step] for start in range(0, len(rows), step)]
                parts = [(*_rows_of(values, present, own), correction and correction.of(own)) for own in steps]
                yield frame.iloc[first : first + most], rows, parts

    def _lacking_rows(self, frame: DataFrame, present: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mask of rows with a cell to fill in: any other row costs as much, and its answers are not used."""
        lacking = np.zeros(len(frame), bool)
        for modality in self._columns:
            own = [i for i, name in enumerate(self.schema.modalities[modality]) if name in frame.columns]
            lacking |= ~present[modality][:, own].all(1)
        return lacking


def _rows_of(
    values: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray], rows: slice | np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return {name: own[rows] for name, own in values.items()}, {name: own[rows] for name, own in present.items()}


def load_table(path: str | Path) -> TableModel:
    """Load the model that `TableModel.save` wrote, or that of a run directory.

    Raises:
        RunError: absent, damaged, or not of a table.
    """
    path = as_path(path, "the model's file or run directory")
    if path.is_file() and is_table_file(path):
        raise RunError(f"{path} is a table, not a model: name the run directory (or saved model) first, then the table")
    if path.is_file():
        stored: Mapping[str, Any] = saving.read_saved(path)[1]
        model: Callable[[], MultimodalVAE] = lambda: saving.load(path)  # noqa: E731
    else:
        stored, model = read_run(path)[1], lambda: opened_model(path)
    if stored.get("layout") is None:
        raise RunError(
            f"{path} is not a model of a table: use it in Python, model = mvae.load({str(path)!r}), then "
            "model.posterior, model.predict or mvae.impute(model, …); or train one of a table, mvae train data.csv"
        )
    return TableModel(model(), TableSchema.from_dict(stored["layout"]))


def for_file(schema: TableSchema, frame: DataFrame, *, text: bool, typed: bool) -> DataFrame:
    """An answer in the form in which a file stores it.

    Args:
        schema: schema of the model's table.
        frame: the answer.
        text: whether the cells of the queried table are text. If not, its own columns stay as they are.
        typed: whether the file has types, so that it gets numbers and dates in place of text. Otherwise dates are
            written as in the training table.
    """
    if not (typed or text):
        return frame
    made = {}
    for name in frame.columns:
        stem, _, side = name.rpartition(".")
        column = schema.named.get(stem if side in ("low", "high") and name not in schema.named else name)
        cells = frame[name]
        made[name] = cells.array
        if column is None or (name in schema.named and not text):
            continue
        if typed and is_text(cells):
            made[name] = column.typed(cells.to_numpy(object))
        elif not typed and column.form and not is_text(cells):
            seconds, here = column.encode(cells)
            made[name] = np.full(len(frame), None, object)
            made[name][here] = column.decode(seconds[here])
    return pandas().DataFrame(made)


def _require_free(names: Sequence[str], wanted: Set[str]) -> None:
    """Raises QueryError where the table already has a column of a name that the answer adds."""
    if taken := sorted(wanted & set(names)):
        raise QueryError(f"the answer adds a column {taken[0]!r}, and the table already has one: rename that one")


def _plainly(column: TableColumn, numbers: np.ndarray) -> Any:
    """Numbers of a column decoded to numbers or dates, never to text."""
    cells = column.decode(numbers)
    return column.typed(cells) if column.dtype == "text" else cells


def _require_share(share: float | None) -> None:
    if share is not None and not (fits(share, float) and 0 < share < 1):
        said = "an interval is a share of the probability between 0 and 1, such as 0.9"
        raise QueryError(f"{said}, not {abridged(share)}")
