"""A dataset: training, validation and test rows, and the text form of its values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mvae.data.codecs import Codec
from mvae.data.schema import ColumnSchema
from mvae.data.table import Table
from mvae.data.tables.schema import TableSchema

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test rows; the test rows are for evaluation only.

    Args:
        name: name of the dataset.
        train, validation, test: the rows.
        codecs: modality → how its values are parsed and printed, for values that are neither pictures nor plain
            numbers.
        others: name → rows of other domains, which are reported separately.
        vocabulary_id: identifies the meaning of the columns' numbers if it depends on the files (a vocabulary); a run
            refuses data with another one than it was trained on.
        schema: modality → how its column was encoded, if it was.
        layout: the meaning of the columns, if the rows are from a user's table.
    """

    name: str
    train: Table
    validation: Table
    test: Table
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    others: Mapping[str, Table] = field(default_factory=dict)
    vocabulary_id: str | None = None
    schema: Mapping[str, ColumnSchema] = field(default_factory=dict)
    layout: TableSchema | None = None
