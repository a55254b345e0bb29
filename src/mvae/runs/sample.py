"""Samples of a run: reading what is given from text, and pictures of what is drawn (Fig. 2, 4)."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mvae.data import codecs
from mvae.data.picture import is_picture
from mvae.data.tables.column import ALONE
from mvae.data.tables.frames import pandas
from mvae.data.tables.pictures import is_there, picture_file
from mvae.data.tables.schema import TableSchema
from mvae.errors import QueryError, listed, nearest
from mvae.evaluation.images import levels
from mvae.evaluation.rows import rows_with
from mvae.report.grid import colour, save_grid, save_named_rows
from mvae.runs.covariates import as_arguments, as_options, first_covariates, parse_covariate
from mvae.runs.run import Run
from mvae.runs.tables import TableModel
from mvae.runs.values import parse_cell, parse_value, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "draw",
    "each_shown",
    "names_columns",
    "parse_given",
    "parse_of",
    "sample",
    "sample_cells",
    "shown_by",
    "unknown_words",
]


def parse_given(run: Run, given: tuple[str, ...]) -> dict[str, Tensor] | None:
    """Parse ``("label=5",)`` into one row of data: a class by name or number, an image by file, numbers with commas.

    ``image=test:3`` is the image of test row 3. Covariates are given in the same way. Cells of a table's modality of
    several columns are given by column; its other columns are NaN, which means missing.

    Raises:
        QueryError: an unknown modality, or a value it cannot have.
    """
    row, layout = dict[str, Tensor](), run.data.layout
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise QueryError(f"--given {text!r}: write MODALITY=VALUE, for example label=5")
        column = "" if layout is None else _column_in(text, layout)
        name, value = (column, text[len(column) + 1 :]) if column else (name, value)
        name = _modality_of(run, name)
        if layout is not None and column and not _is_modality(run, name):
            _give_cell(row, layout, column, value)
            continue
        if name not in run.model.covariates:
            run.model.require_known([name])
        if name in row:
            raise QueryError(f"--given names {name} twice: give one value")
        if name in run.model.covariates:
            row[name] = parse_covariate(name, run.model.covariates[name], value)
            continue
        try:
            row[name] = parse_value(run.data, name, value, _brightest(run, name))
        except QueryError as error:
            raise QueryError(f"--given {text!r}: {error}") from None
    return row or None


def _column_in(text: str, layout: TableSchema) -> str:
    """The column that ``NAME=CELL`` gives, or an empty text. A column's name may have a = itself."""
    return max((name for name in layout.seen if text.startswith(f"{name}=")), key=len, default="")


def _modality_of(run: Run, name: str) -> str:
    """The modality of a table's column of pictures or texts; any other name as it is."""
    layout = run.data.layout
    alone = {layout.modalities[modality][0]: modality for modality in layout.shapes} if layout is not None else {}
    return name if name in run.data.test.columns else alone.get(name, name)


def _is_modality(run: Run, name: str) -> bool:
    """Whether a name means a whole modality: of a modality of several columns and one of them, it means the column."""
    layout = run.data.layout
    ambiguous = layout is not None and len(layout.modalities.get(name, ())) > 1 and name in layout.seen
    return name in run.data.test.columns and not ambiguous


def _give_cell(row: dict[str, Tensor], layout: TableSchema, name: str, cell: str) -> None:
    """Add a cell to a row whose modalities of columns are NaN where nothing is given."""
    modality, place = layout.home_of(name)
    nothing = torch.full((1, len(layout.modalities[modality])), torch.nan, dtype=torch.float64)
    own = row.setdefault(modality, nothing)
    if not own[0, place].isnan():
        raise QueryError(f"--given names {name} twice: give one value")
    own[0, place] = _number_of(layout, name, cell)


def _number_of(layout: TableSchema, name: str, cell: str) -> float:
    """The number of a given cell; raises QueryError, with what was typed, for one that the column cannot have."""
    try:
        return parse_cell(layout.named[name], cell)
    except QueryError as error:
        raise QueryError(f"--given {name}={cell}: {error}") from None


def unknown_words(run: Run, given: tuple[str, ...]) -> list[str]:
    """The words of given sentences, such as ``("en=the zebra",)``, that are not in the run's vocabulary, each once."""
    parts = (text.partition("=") for text in given)
    return codecs.unknown_words(run.data.codecs, ((_modality_of(run, name), value) for name, _, value in parts))


def names_columns(run: Run, given: tuple[str, ...], of: tuple[str, ...] = ()) -> bool:
    """Are cells of a run's table given or requested? A picture or a text, even if given cells, is a whole modality."""
    layout = run.data.layout
    if layout is None or (of and all(_modality_of(run, name) in layout.shapes for name in of)):
        return False
    return not all(_is_modality(run, text.partition("=")[0]) for text in (*given, *of))


def sample_cells(run: Run, given: tuple[str, ...], n: int, seed: int, of: tuple[str, ...] = ()) -> "DataFrame":
    """Sample n rows of a run's table given some cells, ``("hb=12", "sex=f")``: draws from p(rest | given).

    Args:
        run: a run of a table.
        given: cells by column, written as in the table's file.
        n: number of rows.
        seed: seed of the draws.
        of: the columns to sample; default all that are not given, except pictures and texts.

    Raises:
        QueryError: an unknown column, one that the model does not see, a picture or a text to sample, a cell that the
            column cannot have, or nothing left to sample.
    """
    layout = run.data.layout
    assert layout is not None
    seen = layout.seen
    cells: dict[str, str] = {}
    for text in given:
        own = _column_in(text, layout)
        name, equals, cell = (own, "=", text[len(own) + 1 :]) if own else text.partition("=")
        if not equals:
            raise QueryError(f"--given {text!r}: write COLUMN=VALUE, for example {seen[0]}=…")
        _require_column(name, seen)
        if name in cells:
            raise QueryError(f"--given names {name} twice: give one value")
        cells[name] = _file_given(layout, name, cell) if layout.named[name].kind == "picture" else cell
    text = {name for name in seen if layout.named[name].form or layout.named[name].dtype == "text"}
    typed = {name: "string" if name in text and name not in cells else object for name in seen}
    frame = pandas().DataFrame({name: pandas().Series([cells.get(name)], dtype=typed[name]) for name in seen})
    for name, cell in cells.items():
        _number_of(layout, name, cell)
    for name in of:
        _require_sampled(name, layout, cells)
    columns = [name for name in seen if layout.named[name].kind not in ALONE]  # pictures and texts cannot be filled in
    sampled = list(of) or [name for name in columns if name not in cells]
    if not sampled:
        raise QueryError(f"everything is given, so say what to sample: --of {', '.join(columns[:1]) or 'MODALITY'}")
    return TableModel(run.model, layout).impute(frame, draws=n, seed=seed)[sampled].reset_index(drop=True)


def _file_given(layout: TableSchema, name: str, cell: str) -> str:
    """The path of a given picture, from here or from the table's folder; raises QueryError if there is no such file."""
    found = [file for file in (Path(cell), picture_file(layout.folder, cell)) if is_there(file)]
    if not found:
        raise QueryError(f"--given {name}={cell}: there is no such file, here or in the table's folder: give a picture")
    return str(found[0].absolute())


def _require_sampled(name: str, layout: TableSchema, given: Iterable[str]) -> None:
    """Raises QueryError unless this is a column that can be sampled given these cells."""
    columns = {column: modality for modality, own in layout.modalities.items() for column in own}
    if name not in layout.modalities:
        _require_column(name, list(columns))
    alone = [c for c, modality in columns.items() if modality in layout.shapes and name in (c, modality)]
    if alone:
        raise QueryError(
            f"--of {name}: a {layout.named[alone[0]].kind} is not sampled together with columns: ask for each alone"
        )
    if name not in columns:
        left = [column for column in layout.modalities[name] if column not in given]
        raise QueryError(f"--of {name}: name columns of this modality that are not given: {listed(left) or 'none'}")


def _require_column(name: str, seen: list[str]) -> None:
    if name not in seen:
        raise QueryError(f"no column {name!r} that this model sees; it has {listed(seen)}{nearest(name, seen)}")


def parse_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Split ``("edges,mask", "image")`` into names, each once.

    >>> parse_of(("edges,mask", "image"))
    ('edges', 'mask', 'image')
    """
    return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))


def sample(
    run: Run, given: dict[str, Tensor] | None, n: int, seed: int, path: Path, of: tuple[str, ...] = ()
) -> tuple[Path | None, dict[str, list[Any]]]:
    """Draw n samples given a row (or nothing): images as one PNG at ``path`` (means, as in Fig. 2), the rest as values.

    The picture is a grid. If images are given, or several modalities of images are generated, it has a named part for
    each, with what is given first.

    Returns:
        The written picture (None where no image is generated), and the other modalities' samples: a text (a class, a
        sentence), a list of numbers, or for a table a mapping from columns to cells.

    Raises:
        QueryError: n < 1, an unknown modality, a covariate that is not given, or nothing left to generate.
    """
    if lacking := {name: x for name, x in first_covariates(run).items() if name not in (given or {})}:
        raise QueryError(
            f"this model is conditioned on {', '.join(lacking)}: give it, as in the first test row:"
            f"{as_options(run, lacking)}"
        )
    of = tuple(_modality_of(run, name) for name in of) or tuple(
        n for n in run.model.names if n in run.model.answerable and n not in (given or {})
    )
    if not of:
        raise QueryError(f"everything is given, so say what to generate: --of {run.model.names[0]}")
    generator = torch.Generator(run.model.device).manual_seed(seed)
    drawn = draw(run, given, of, n, generator)
    shown = {
        f"given {name}": levels(x, _brightest(run, name)) for name, x in (given or {}).items() if _is_image(run, name)
    }
    images = {name: drawn[name][:, 0] for name in of if _is_image(run, name)}
    if images and len(shown) + len(images) == 1:
        save_grid(images[next(iter(images))], path)
    elif images:
        save_named_rows(shown | images, path, columns=math.ceil(math.sqrt(n)))
    return path if images else None, {name: _values(run, name, drawn[name][:, 0]) for name in of if name not in images}


def _values(run: Run, name: str, drawn: Tensor) -> list[Any]:
    """The samples of a modality that is not an image, in the form that `sample` returns."""
    layout = run.data.layout
    if (codec := run.data.codecs.get(name)) is not None:
        return [codec.format(value) for value in drawn]
    if layout is None or name not in layout.modalities:
        return drawn.tolist()
    columns, numbers = layout.fields_of(name), drawn.double().cpu().numpy()
    cells = {column.name: column.decode(numbers[:, i]) for i, column in enumerate(columns)}
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _is_image(run: Run, name: str) -> bool:
    return is_picture(run.data.test.columns[name])


def _brightest(run: Run, name: str) -> float:
    """The value of full brightness of a modality of pictures; 1 for a condition, whose levels are in [0, 1]."""
    return run.model.modalities[name].likelihood.levels if name in run.model.names else 1.0


def draw(
    run: Run, given: dict[str, Tensor] | None, of: tuple[str, ...], n: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw samples; for images their means, from the same z (levels in [0, 1], in the data's shape)."""
    given = given or {}
    some = any(name not in run.model.covariates for name in given)
    query: dict[str, Any] = {"data": table_of(given)} if some else {"covariates": as_arguments(run, given)}
    state = generator.get_state()
    drawn = run.model.generate(of=of, n=n, generator=generator, **query)
    generator.set_state(state)
    means = run.model.generate(of=of, n=n, mean=True, generator=generator, **query)
    event = {name: run.data.test.columns[name].shape[1:] for name in of}
    images = {
        name: levels(means[name].reshape(n, -1, *event[name]), _brightest(run, name))
        for name in of
        if _is_image(run, name)
    }
    return {name: images.get(name, drawn[name]) for name in of}


def shown_by(run: Run) -> tuple[str, ...]:
    """The values that a run's picture is conditioned on, as ``("label=5",)``; for a CVAE, by default a test row's."""
    if run.config.evaluation.show or not run.model.conditional:
        return tuple(run.config.evaluation.show)
    table, (name,) = run.data.test, [name for name in run.model.known if name not in run.model.names]
    row = rows_with(table, [name])[:1]
    value, codec = table.select_rows(name, row)[0], run.data.codecs.get(name)
    if codec is not None:
        return (f"{name}={codec.format(value)}",)
    if is_picture(table.columns[name]):
        return (f"{name}=test:{int(row)}",)
    return (f"{name}={','.join(f'{number:g}' for number in value.flatten().tolist())}",)


def each_shown(run: Run, n: int, seed: int, path: Path) -> Path | None:
    """Save a picture with a row of n samples for each entry of ``evaluation.show``; None without images.

    A model that does not know a modality to be given shows samples from its prior. A given image comes first in its
    row. Covariates are those of the first test row.
    """
    generator = torch.Generator(run.model.device).manual_seed(seed)
    shown = shown_by(run)
    names = *run.model.answerable, *run.model.covariates
    known = bool(shown) and all(text.partition("=")[0] in names for text in shown)
    image = next((name for name in run.model.names if _is_image(run, name) and name in run.model.answerable), None)
    if image is None:
        return None
    rows = []
    for text in shown or ("prior",):
        given = parse_given(run, (text,)) if known else None
        seen = [colour(levels(x, _brightest(run, name))) for name, x in (given or {}).items() if _is_image(run, name)]
        drawn = draw(run, first_covariates(run) | (given or {}), (image,), n, generator)[image][:, 0]
        rows.append(torch.cat([*seen, colour(drawn) if seen else drawn])[:n])
    save_grid(torch.cat(rows), path, columns=n)
    return path
