"""Plots of a run's metrics and of missing values."""

from pathlib import Path

import pytest
from PIL import Image

from mvae.data.tables.describe import describe
from mvae.data.tables.frames import of_frame
from mvae.errors import RunError
from mvae.report.curves import draw_curves
from mvae.report.figure import plain, saved_figure
from mvae.report.missingness import draw_missingness

ROWS = [
    {
        "epoch": float(epoch),
        "validation/objective": 100.0 / epoch,
        "validation/kl complete/full": 1.0,
        "validation/kl complete/image": 2.0,
        "validation/coupling": 0.1 * epoch,
        "validation/accuracy image->label": 0.5,
    }
    for epoch in range(1, 21)
]


def width(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.size[0]


def test_only_panels_with_data_are_drawn(tmp_path: Path) -> None:
    draw_curves(ROWS, tmp_path / "all.png")
    few = [{"epoch": row["epoch"], "validation/objective": row["validation/objective"]} for row in ROWS]
    draw_curves(few, tmp_path / "few.png")
    assert width(tmp_path / "all.png") == 4 * width(tmp_path / "few.png")


def test_dollars_in_names_are_not_read_as_math(tmp_path: Path) -> None:
    for name in ("cost $a_$", "$", r"a\$b_$", "$$"):
        draw_curves([row | {f"validation/kl complete/{name}": 3.0} for row in ROWS], tmp_path / "curves.png")
        draw_missingness(describe(of_frame({name: [1.5, None, 2.5], "b": [1.0, 2.0, 3.5]})), tmp_path / "missing.png")
    with saved_figure(tmp_path / "shown.png") as figure:
        text = figure.text(0, 0, plain(r"a\$b_$"))
        assert text._preprocess_math(text.get_text()) == (r"a\$b_$", False)


def test_a_run_without_an_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no metrics yet"):
        draw_curves([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
