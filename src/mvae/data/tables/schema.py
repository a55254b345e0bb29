"""The schema of a table: the meaning of its columns, their modalities, and the encoding of data frames for a model."""

import logging
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mvae.data.codecs import Codec
from mvae.data.tables.cells import Missing, factorized, is_text, missing_cells
from mvae.data.tables.column import ALONE, FORMS, MODELLED, TableColumn
from mvae.data.tables.counts import closer_than_counts
from mvae.data.tables.dates import FORMATS, fitting
from mvae.data.tables.frames import CHUNK, DataFrame, Frames, pandas
from mvae.data.tables.infer import NONE_THERE, Kind, infer
from mvae.data.tables.missed import Missed
from mvae.data.tables.numbers import has_comma
from mvae.data.tables.pictures import picture_shape, read_pictures
from mvae.data.tables.texts import read_texts, text_shape, vocabulary_of
from mvae.errors import DataError, SettingsError, listed, nearest

__all__ = ["Kind", "TableSchema", "column_groups", "learn_columns"]

TOKEN = 64  # numbers that a word counts as in `width`
_STORED_INDEX = re.compile(r"__index_level_\d+__")
log = logging.getLogger("mvae.data")

Arrays = dict[str, np.ndarray]
Rows = Callable[[int, int], np.ndarray]
"""From two row numbers, the mask of training rows between them."""


@dataclass(frozen=True)
class TableSchema:
    """The meaning of a table's columns, learned from training rows and saved with a model.

    Args:
        columns: all columns of the training table, in its order.
        modalities: modality → those of its columns that a model sees; a picture or a text is the only column of its
            modality.
        shapes: modality → shape, for pictures and texts.
        key: the column that names a row; the model does not see it.
        folder: the training table's folder, which paths of pictures are relative to if rows are not from a file.

    >>> from mvae.data.tables.frames import of_frame
    >>> schema = TableSchema.learn(of_frame({"age": [41.5, None, 12.25], "sex": ["f", "m", None]}))
    >>> schema.modalities
    {'table': ('age', 'sex')}
    >>> columns, present = schema.encode(of_frame({"sex": ["m"], "age": [3.5]}).whole())
    >>> columns["table"], present["table"]
    (array([[3.5, 1. ]]), array([[ True,  True]]))
    """

    columns: tuple[TableColumn, ...]
    modalities: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    key: str | None = None
    folder: Path = Path()

    @classmethod
    def learn(
        cls,
        frames: Frames,
        *,
        missing: Missing = (),
        modalities: Mapping[str, Sequence[str]] | None = None,
        kinds: Mapping[str, Kind] | None = None,
        lengths: Mapping[str, int] | None = None,
        training: Rows | None = None,
    ) -> "TableSchema":
        """Learn a schema from a table; what is not declared is proposed.

        Args:
            frames: the table.
            missing: cells that mean missing, in addition to those of the file format.
            modalities: modality → its columns; by default one for each file (`column_groups`).
            kinds: column → kind.
            lengths: modality of text → number of tokens that are read, including the stop token; default 64.
            training: which rows to learn from; default: all.

        Raises:
            SettingsError: a declared column is absent, or in two modalities. DataError: as in `infer`; or no column is
                left to learn from.
        """
        _require_columns(frames, modalities or {}, kinds or {})
        wanted = [name for names in modalities.values() for name in names] if modalities else list(frames.names)
        sample = frames.sample(None if training is None else np.flatnonzero(training(0, frames.rows)))
        learned = learn_columns(frames, sample, wanted, missing=missing, kinds=kinds, training=training)
        columns = tuple(learned.get(name) or TableColumn(name, "ignored", "not declared") for name in frames.names)
        if modalities is None:
            modalities = column_groups(frames, [c for c in columns if c.kind in (*MODELLED, *ALONE)])
        shapes: dict[str, tuple[int, ...]] = {}
        groups: dict[str, tuple[str, ...]] = {}
        for group, names in modalities.items():
            if seen := tuple(name for name in names if learned[name].kind in (*MODELLED, *ALONE)):
                groups[group] = seen
            alone = next((learned[name] for name in names if learned[name].kind in ALONE), None)
            if alone is not None and len(names) > 1:
                raise SettingsError(
                    f"column {alone.name!r} is a {alone.kind}, which is a modality by itself: take it out of "
                    f"{group!r} and give it one of its own"
                )
            if alone is not None and alone.kind == "text":
                shapes[group] = text_shape(frames, alone, (lengths or {}).get(group))
            elif alone is not None:
                shapes[group] = picture_shape(frames, alone.name)
        if not groups:
            raise DataError(
                f"{frames.where} has no column to learn from: "
                + "; ".join(f"{column.name}: {column.reason}" for column in columns[:5])
            )
        return cls(columns, groups, shapes, frames.key, frames.folder or Path())

    @cached_property
    def named(self) -> dict[str, TableColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    def fields_of(self, modality: str) -> tuple[TableColumn, ...]:
        """The columns of a modality."""
        return tuple(self.named[name] for name in self.modalities[modality])

    def home_of(self, column: str) -> tuple[str, int]:
        """The modality of a column, and the column's position there.

        Raises:
            SettingsError: the model does not see the column (the message says why).
        """
        for modality, names in self.modalities.items():
            if column in names:
                return modality, names.index(column)
        if column in self.named:
            raise SettingsError(f"the model does not see the column {column!r}: {self.named[column].reason}")
        if column in self.modalities:
            raise SettingsError(f"{column!r} is a modality: name one of its columns, {listed(self.modalities[column])}")
        raise SettingsError(f"no column {column!r}; there are {listed(self.named)}{nearest(column, self.named)}")

    def encode(
        self, frame: DataFrame, *, folder: Path | None = None, missed: Missed | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Encode a data frame for a model: the numbers of each modality, and the masks of present values.

        Columns are found by name, whatever their order and type. An absent column is missing in every row; columns that
        are not in the schema are ignored.

        Args:
            frame: the rows.
            folder: folder of the rows' file, which paths of pictures are relative to; default: the training table's.
            missed: counts absent pictures and invalid cells if a table is read in parts; default: warn immediately.

        Returns:
            modality → ``rows fields`` (float64; 0 where missing) or ``rows channels height width`` (bytes)
            or ``rows length`` (word numbers), and
            modality → mask of that shape (for pictures and texts: ``rows``).

        Raises:
            DataError: none of the model's columns is present.
        """
        if not any(name in frame.columns for name in self.seen):
            raise DataError(
                f"the table has none of the model's columns: the model has {listed(self.seen)}, the table has "
                f"{listed(frame.columns)}"
            )
        frame = frame.reindex(columns=self.seen)  # absent columns are missing in every row
        values: dict[str, np.ndarray] = {}
        present: dict[str, np.ndarray] = {}
        for modality, names in self.modalities.items():
            if modality in self.shapes:
                column, shape, cells = self.named[names[0]], self.shapes[modality], frame[names[0]]
                values[modality], present[modality] = (
                    read_texts(column, cells, shape[0])
                    if column.kind == "text"
                    else read_pictures(cells, shape, folder or self.folder, column.missing, missed)
                )
                continue
            parts = [self.named[name].encode(frame[name], missed=missed) for name in names]
            values[modality], present[modality] = (np.stack(own, 1) for own in zip(*parts, strict=True))
            values[modality][~present[modality]] = 0
        return values, present

    def encoded(self, frames: Frames, rows: int = CHUNK) -> Iterator[tuple[DataFrame, Arrays, Arrays]]:
        """Encode a table in parts of at most ``rows`` rows, as `encode` does; warnings are for all parts together."""
        forms = self._forms(frames)
        with Missed() as missed:
            for frame in frames.chunks(rows):
                if forms:
                    frame = frame.copy(deep=False)
                    frame.attrs = {**frame.attrs, FORMS: forms}
                yield frame, *self.encode(frame, folder=frames.folder, missed=missed)

    def _forms(self, frames: Frames) -> dict[str, str]:
        """The formats of date columns that are text here but were not in training, if one fits the whole table."""
        names = {c.name for c in self.columns if c.kind == "date" and not c.form and c.name in frames.names}
        found: dict[str, list[str]] = {}
        for part in frames.chunks() if names else ():
            cells = {name: factorized(part[name])[1] for name in names}  # works for categories, too
            if not any(own.dtype == object for own in cells.values()):
                break
            for name, own in cells.items():
                there = own[~missing_cells(own, self.named[name].missing)]
                if len(there) and is_text(there):
                    found[name] = fitting(found.get(name, FORMATS), list(map(str, there.tolist())))
        return {name: forms[0] for name, forms in found.items() if forms}

    @property
    def codecs(self) -> dict[str, Codec]:
        """The codecs of the texts, by modality."""
        texts = {name: own for name in self.shapes if (own := self.fields_of(name)[0]).kind == "text"}
        return {name: vocabulary_of(own).codec(self.shapes[name][0]) for name, own in texts.items()}

    @property
    def seen(self) -> list[str]:
        """The columns that a model sees."""
        return [name for names in self.modalities.values() for name in names]

    @property
    def decimal(self) -> str:
        """The decimal mark of the table's numbers that are text: a comma or a point."""
        return "," if any(has_comma(column.style) for column in self.columns) else "."

    @property
    def width(self) -> int:
        """The approximate number of values of a row in a network, which determines parts of bounded memory."""
        size = {n: math.prod(s) * (TOKEN if len(s) == 1 else 1) for n, s in self.shapes.items()}
        return sum(
            size.get(name, sum(max(1, len(column.classes)) for column in self.fields_of(name)))
            for name in self.modalities
        )

    def differences(self, names: Sequence[str]) -> list[str]:
        """Describe which columns a table with these column names is missing, and which it has in addition."""
        absent, more = [n for n in self.seen if n not in names], [n for n in names if n not in self.named]
        said = [f"absent, and so missing in every row: {listed(absent)}"] if absent else []
        return said + ([f"{listed(more)} was not in the training table and is not used"] if more else [])

    def to_dict(self) -> dict[str, Any]:
        """The schema as a dictionary for JSON."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "modalities": {name: list(columns) for name, columns in self.modalities.items()},
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "key": self.key,
            "folder": str(self.folder),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TableSchema":
        """Restore a schema from the output of `to_dict`.

        Raises:
            DataError: it is not such an output.
        """
        try:
            schema = cls(
                tuple(TableColumn.from_dict(column) for column in stored["columns"]),
                {name: tuple(columns) for name, columns in stored["modalities"].items()},
                {name: tuple(map(operator.index, shape)) for name, shape in stored["shapes"].items()},
                stored["key"],
                Path(stored["folder"]),
            )
            wrong = [name for name in schema.seen if name not in schema.named]
            wrong += [name for name in schema.shapes if len(schema.modalities[name]) != 1]
        except (KeyError, TypeError, AttributeError):
            raise DataError("this is not a description of a table's columns") from None
        if wrong or len(schema.named) < len(schema.columns) or len(set(schema.seen)) < len(schema.seen):
            raise DataError("this is not a description of a table's columns: their names disagree")
        return schema


def learn_columns(
    frames: Frames,
    sample: DataFrame,
    names: Sequence[str] | None = None,
    *,
    missing: Missing = (),
    kinds: Mapping[str, Kind] | None = None,
    training: Rows | None = None,
    failed: dict[str, str] | None = None,
) -> dict[str, TableColumn]:
    """Learn columns from the training rows; what is not declared is proposed from a sample of them.

    Cells of other training rows that differ from the sample (a new class, more decimals) are added to it, and the
    column is learned again.

    Args:
        frames: the table.
        sample: a sample of its training rows (`Frames.sample`).
        names: the columns; default: all.
        missing: cells that mean missing, in addition to those of the file format.
        kinds: column → kind.
        training: which rows to learn from; default: all.
        failed: receives the error messages by column instead of an error being raised; such a column is ignored.

    Raises:
        DataError: as in `infer`.
    """
    kinds, known, start = kinds or {}, {name: sample[name] for name in names or frames.names}, 0
    found: dict[str, TableColumn] = {}

    def learn(name: str) -> None:
        try:
            found[name] = infer(
                name, known[name], missing, kinds.get(name), folder=frames.folder, comma_first=frames.separator != ","
            )
        except DataError as error:
            if failed is None:
                raise
            failed[name] = str(error)
            found[name] = TableColumn(name, "ignored", str(error))

    for name in known:
        if name == frames.key:
            found[name] = TableColumn(name, "ignored", "names the rows")
        elif _STORED_INDEX.fullmatch(name) and name not in kinds:
            found[name] = TableColumn(name, "ignored", "the index of a pandas data frame, as Parquet stores it")
        else:
            learn(name)
    for part in frames.chunks() if frames.rows > frames.at_once else ():
        chosen = part if training is None else part[training(start, start + len(part))]
        start += len(part)
        for name, column in found.items():
            if len(odd := _unlike(column, chosen[name])):
                known[name] = pandas().concat([known[name], odd])
                learn(name)
    return found | closer_than_counts(found, [name for name in found if name not in kinds], sample)


def _unlike(column: TableColumn, series: Any) -> Any:
    """The cells of other rows from which a column must be learned again, each once."""
    if column.kind in ALONE or (column.kind == "ignored" and column.reason != NONE_THERE):
        return series.iloc[:0]
    return series[column.present(series) if column.kind == "ignored" else column.unlike(series)].drop_duplicates()


def column_groups(frames: Frames, columns: Sequence[TableColumn]) -> dict[str, tuple[str, ...]]:
    """The modalities of a table: one for each file. A picture or a text is a modality by itself."""
    alone = {column.name: (column.name,) for column in columns if column.kind in ALONE}
    others = {column.name: None for column in columns if column.kind not in ALONE}  # in order
    files = frames.groups
    if len(files) < 2:
        stem = Path(frames.where).name.partition(".")[0] if frames.text or Path(frames.where).suffix else "table"
        files = {stem: tuple(others)}
    found = {group: tuple(name for name in own if name in others) for group, own in files.items()}
    return {_free(group, alone): own for group, own in found.items() if own} | alone


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A modality name that is not taken yet."""
    while name in taken:
        name += " and others"
    return name


def _require_columns(frames: Frames, modalities: Mapping[str, Sequence[str]], kinds: Mapping[str, Any]) -> None:
    named = [name for names in modalities.values() for name in names]
    for name in (*named, *kinds):
        if name not in frames.names:
            raise SettingsError(
                f"{frames.where} has no column {name!r}; it has {listed(frames.names)}{nearest(name, frames.names)}"
            )
    if twice := [name for name in named if named.count(name) > 1]:
        raise SettingsError(f"the column {twice[0]!r} is declared in two modalities: leave it in one")
