"""A dataset: training, validation and test rows, and how its values are written as text."""

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
        name: of the dataset.
        train, validation, test: the rows.
        codecs: modality → how its values are parsed and printed; for those that are neither pictures nor plain numbers.
        others: name → rows of other domains, reported apart.
        vocabulary_id: identifies what the numbers in the columns mean, where that depends on the files (a vocabulary):
            a run is refused other data than it was trained on.
        schema: modality → how its column was encoded, where it was.
        layout: what the columns of the user's table mean, where the rows are of one.
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
