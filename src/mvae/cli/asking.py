"""Shared by the commands that query a model about a table: opening the run and files, writing the answers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvae.cli.options import DEVICE, JSON, PATH, RUN, SEED, common, print_json

if TYPE_CHECKING:
    from mvae.data.tables.frames import Frames
    from mvae.runs.tables import TableModel

__all__ = ["OUTPUT", "answered", "asking", "plain_cells"]

FILES = click.argument("files", nargs=-1, required=True, type=PATH)
OUTPUT = click.option(
    "-o",
    "--output",
    type=PATH,
    help="Write the answers to this file: .csv, .tsv, .parquet, .arrow or .xlsx.  [default: show the first rows]",
)
SHOWN = 10  # rows printed

Parts = Callable[["TableModel", "Frames"], Iterator[Any]]


def asking(*options: Callable[[Any], Any], samples: int | None = 400) -> Callable[[Any], Any]:
    """Add RUN, FILES, the command's own options and the shared ones; ``samples`` None: no --samples and no --seed."""
    least = click.IntRange(2)
    taken = click.option("--samples", type=least, default=samples, show_default=True, help="Samples of z per row.")
    return common(RUN, FILES, *options, OUTPUT, *((taken, SEED) if samples else ()), DEVICE, JSON)


def answered(
    ask: Parts,
    doing: str,
    *,
    run: Path,
    files: tuple[Path, ...],
    output: Path | None,
    device: str | None,
    as_json: bool,
    whole: bool = False,
) -> None:
    """Query the model, and write or show the answers; memory is bounded whatever the number of rows.

    Args:
        ask: yields the answers part by part.
        doing: the label of the progress bar.
        run: a run directory, or a file of `TableModel.save`.
        files, output, device, as_json: as the commands take them (`asking`).
        whole: the answers have all of the table's columns; otherwise the key column is put before them.
    """
    from mvae.data.tables.frames import stacked
    from mvae.data.tables.opening import open_table
    from mvae.data.tables.writing import require_writable, write_frames
    from mvae.files import require_apart
    from mvae.runs.run import device_named
    from mvae.runs.tables import for_file, load_table
    from mvae.training.progress import shown

    require_apart(output, (*files, run))
    model = load_table(run)
    model.model.to(device_named(device))
    frames = open_table(list(files), model.schema.key if len(files) > 1 else None)
    name = model.schema.key
    keyed = name is not None and name in frames.names and not whole
    if keyed:
        frames = replace(frames, read=lambda rows, read=frames.read: (part.set_index(name) for part in read(rows)))
    for line in (*frames.notes, *model.schema.differences(frames.names)):
        click.echo(f"note: {line}", err=True)
    done, first, typed = 0, list[Any](), output is not None and output.suffix.lower() not in (".csv", ".tsv")
    if output is not None:
        require_writable(output)

    def parts(progress: Callable[[float], object]) -> Iterator[Any]:
        nonlocal done
        for part in ask(model, frames):
            part = part.reset_index() if keyed else part
            if done < SHOWN:
                first.append(for_file(model.schema, part.head(SHOWN - done), text=frames.text, typed=False))
            done += len(part)
            progress(min(1.0, done / frames.rows))
            yield for_file(model.schema, part, text=frames.text, typed=typed)

    with shown(doing) as progress:
        if output is None:
            for _ in parts(progress):
                if done >= SHOWN:
                    break
        else:
            as_read = (frames.separator, frames.encoding, model.schema.decimal) if frames.text else ()
            write_frames(output, parts(progress), *as_read)
    _say(run, output, done if output is not None else frames.rows, stacked(first), as_json)


def _say(run: Path, output: Path | None, rows: int, first: Any, as_json: bool) -> None:
    """Print the number of rows written, or the first answers and the number of the table's rows."""
    if as_json:
        columns = list(map(str, first.columns))
        cells = [plain_cells(row) for row in first.itertuples(index=False)]
        print_json(
            {"run": str(run), "output": output and str(output), "rows": rows, "columns": columns, "first": cells}
        )
    elif output is not None:
        click.echo(f"{rows:,} rows: {output}")
    else:
        click.echo(first.to_string(index=False, max_colwidth=30))
        if rows > SHOWN:
            click.echo(f"the first {SHOWN} of {rows:,} rows; -o FILE writes all", err=True)


def plain_cells(cells: Iterable[Any]) -> list[Any]:
    """Cells as JSON values; a missing cell is null."""
    return [_plain(cell) for cell in cells]


def _plain(cell: Any) -> Any:
    cell = cell.item() if hasattr(cell, "item") else cell
    if cell is None or (cell != cell) is not False:  # pandas.NA is not equal to anything, nor unequal
        return None
    return cell if isinstance(cell, str | int | float | bool) else str(cell)
