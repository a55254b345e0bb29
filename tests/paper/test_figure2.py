"""Figure 2: the picture, and the rows of its conditional coherence."""

from functools import partial
from pathlib import Path

from PIL import Image

from mvae.paper.figure2 import FIGURE2
from mvae.paper.harness import reproduce
from mvae.paper.item import Options
from tests.paper.common import assert_made_once, paths


def test_figure2_is_drawn_scored_and_recorded_once(tmp_path: Path) -> None:
    options = Options(datasets=("digits",), recipes=("coupled",), budget="smoke")
    make = partial(reproduce, FIGURE2, options, paths(tmp_path))
    rows = make()
    assert {row["metric"] for row in rows} == {"agreement x2->x1", "classifier accuracy on test rows"}
    values = {row["metric"]: row for row in rows}
    assert values["classifier accuracy on test rows"]["value"] > 0.9
    assert 0 <= values["agreement x2->x1"]["value"] <= 1
    assert values["agreement x2->x1"]["n"] == 300  # all test rows
    assert values["agreement x2->x1"]["settings"]["epochs"] == 3
    picture = tmp_path / "results" / "figure2-digits-coupled-smoke.png"
    with Image.open(picture) as opened:
        assert opened.size == (17 * 58 + 2, 8 * 58 + 2)
    assert (tmp_path / "runs" / "classifier-digits-label.safetensors").exists()
    assert_made_once(make, rows, tmp_path)
    picture.unlink()  # it is drawn again, from the same run
    assert make() == rows
    assert picture.exists()
