"""`mvae describe`."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvae.cli.options import JSON, PATH, common, one_column, print_json

if TYPE_CHECKING:
    from mvae.data.tables.describe import Description

__all__ = ["KEY", "MISSING", "as_cell", "describe"]

ARRAYS = "the arrays are described here as the columns of one table, which a declaration (-o) trains;"
MISSING = click.option("--missing", multiple=True, help="A cell that means missing, such as -999 or ?. Repeatable.")
KEY = click.option(
    "--key",
    multiple=True,
    callback=one_column("join them into one column in each file"),
    help="The column that identifies a row; several files are joined by it.",
)


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, help="Write a declaration, to be edited, to this TOML file.")
@click.option("--picture", type=PATH, help="Draw which columns are missing together, to this PNG.")
@common(KEY, MISSING, JSON)
def describe(
    files: tuple[Path, ...],
    output: Path | None,
    picture: Path | None,
    key: str | None,
    missing: tuple[str, ...],
    as_json: bool,
) -> None:
    """Describe a table: each column's kind and why, which columns are missing together, and what looks like a mistake.

    FILES are CSV, TSV, Parquet, Arrow, Excel or .npz; several are joined by --key. The arrays of an .npz become the
    columns of one table; mvae train FILE.npz makes each array a modality instead.

    \b
    Example:  mvae describe patients.csv -o run.toml
              mvae describe patients.csv labs.parquet --key id --missing -999
    """
    from mvae.data.tables.describe import describe as described
    from mvae.data.tables.opening import open_table
    from mvae.files import require_apart, write_text
    from mvae.report.figure import require_figures
    from mvae.report.missingness import draw_missingness
    from mvae.runs.declaring import declaration_of

    for written in (output, picture):
        require_apart(written, files)
    if picture is not None:
        require_figures()
    named = [as_cell(cell) for cell in missing]
    found = described(open_table(list(files), key), named)
    if picture is not None:
        draw_missingness(found, picture)
    if output is not None:
        write_text(output, declaration_of(found, [str(file) for file in files], key, named))
    if as_json:
        made = {"declaration": output and str(output), "picture": picture and str(picture)}
        print_json(found.to_dict() | made)
        return
    _show(found)
    if picture is not None:
        click.echo(f"picture: {picture}")
    words = [str(output)] if output else [*map(str, files), *(("--key", key) if key else ())]
    words += [] if output else [word for cell in missing for word in ("--missing", cell)]
    troubled = output is None and any(column.problem for column in found.columns)  # a declaration leaves these out
    words = ["describe", *words, "-o", "run.toml"] if troubled else ["train", *words]
    if len(files) == 1 and files[0].suffix.lower() == ".npz":
        click.echo(
            f"{ARRAYS} mvae train {shlex.quote(str(files[0]))} makes each array a modality, without a declaration"
        )
    click.echo(f"try next: mvae {shlex.join(words)}")


def as_cell(cell: str) -> str | int | float:
    """The cell as a number where it is one, else as text; NaN and infinity count as text."""
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        return number if kind is int or math.isfinite(number) else cell
    return cell


def _show(found: "Description") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mvae.cli.show import MOST_SHOWN, shown_names

    console = Console(highlight=False)
    table = Table(title=f"{found.where}: {found.rows:,} rows, {len(found.columns)} columns", title_justify="left")
    for heading, options in (("column", {"overflow": "fold"}), ("kind", {}), ("missing", {"justify": "right"}),
                             ("values", {}), ("why", {})):  # fmt: skip
        table.add_column(heading, **options)  # pyright: ignore[reportArgumentType]
    listed = [column for i, column in enumerate(found.columns) if i < MOST_SHOWN or column.problem]
    for column in listed:
        share = f"{column.missing:.1%}" if column.missing else ""
        style = "red" if column.problem else "dim" if column.kind in ("ignored", "constant") else ""
        cells: list[Any] = [column.name, column.kind, share, column.values, column.problem or column.reason]
        table.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(table)
    if (more := len(found.columns) - len(listed)) > 0:
        console.print(f"… and {more:,} more columns, which --json and the declaration list")
    _show_patterns(found, console)
    said = [f"modality {name}: {shown_names(names)}" for name, names in found.modalities.items()]
    said += [f"{one} and {other}: {how}" for one, other, how in found.leaks]
    said += [f"rows equal to an earlier one: {found.duplicates:,}"] if found.duplicates else []
    said += [f"empty rows: {found.empty_rows:,}"] if found.empty_rows else []
    for line in (*said, *found.notes):
        console.print(Text(line))


def _show_patterns(found: "Description", console: Any) -> None:
    """Print which columns are missing together: a line per pattern, a sign per column with any missing cell."""
    from rich.text import Text

    from mvae.cli.show import MOST_SHOWN, shown_names

    lacking = [column.name for column in found.columns if column.missing]
    if not lacking:
        return
    console.print(Text(f"missing together (■ present, · missing; columns: {shown_names(lacking)})"))
    shown: dict[str, int] = {}  # patterns may differ only in columns that are not listed
    for rows, missing in found.patterns:
        signs = "".join("·" if name in missing else "■" for name in lacking[:MOST_SHOWN])
        shown[signs] = shown.get(signs, 0) + rows
    for signs, rows in shown.items():
        console.print(Text(f"  {signs}  {rows / found.rows:6.1%} of the rows"), soft_wrap=True)
    if found.other_patterns:
        console.print(Text(f"  and {found.other_patterns:,} more patterns"))
