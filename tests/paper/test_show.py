"""The table of tasks: each number in its column, no number cut off at 80 columns."""

import pytest

from mvae.paper.show import show_tasks


def row(measure: str, value: float, who: str = "", seed: int = 0) -> dict[str, object]:
    metric = f"obscured->image (hidden half) {measure}{who}"
    how = {"dataset": "vision", "recipe": "coupled", "budget": "laptop"}
    return {"metric": metric, "value": value, "stderr": 0.25, "n": 1000, "seed": seed, **how}


def test_table_shows_model_and_both_references(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("NLL", 9876.54), row("NLL", 8765.43, ", training mean"), row("NLL", 7654.32, ", nearest neighbour")]
    show_tasks("figure13", [*rows, row("SSIM", 0.4567)])
    out = capsys.readouterr().out
    assert "figure13, vision, coupled, budget laptop" in out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "->" in line]
    assert [line[1:] for line in cells] == [  # the task may be wrapped, numbers never
        ["1000", "9876.5", "0.2", "8765.4", "7654.3"],
        ["1000", "0.457", "0.250", "–", "–"],
    ]


def test_each_seed_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_tasks("figure13", [row("SSIM", 0.1), row("SSIM", 0.2, seed=1)])
    out = capsys.readouterr().out
    assert [value for value in ("0.100", "0.200") if value in out] == ["0.100", "0.200"]
    assert out.count("seed") == 2
