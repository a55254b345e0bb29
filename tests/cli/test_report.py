"""`mvae report` and `mvae compare`: on whole runs, also of a user's own table, and their errors."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mvae.report.page import Section
from tests.command import assert_refused, mvae

pytest.importorskip("plotly")
EVIL = "<script>alert(1)</script>"
FEW = "--rows", 20, "--samples", 30, "--device", "cpu"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on an incomplete table whose names and categories are HTML, next to its data."""
    folder, r, n = tmp_path_factory.mktemp("table"), np.random.default_rng(0), 300
    sick = r.integers(0, 2, n)
    ward = np.array([EVIL, "A&E"])[np.where(r.random(n) < 0.8, sick, 1 - sick)]
    lab = 13 - 2 * sick + r.normal(size=n)
    np.savez(folder / "t.npz", **{"lab": lab, "lab__present": r.random(n) < 0.8, EVIL: ward, "sick": sick})
    result = mvae("train", folder / "t.npz", "--epochs", 2, "--run-dir", folder / "run", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "digits"
    assert mvae("train", "digits", "--epochs", 1, "--run-dir", folder, "--device", "cpu", "--json").code == 0
    return folder


def test_report_of_a_table_shows_every_part_and_escapes_names(table: Path) -> None:
    result = mvae("report", table / "run", *FEW)
    path = table / "run" / "report.html"
    assert (result.code, result.out) == (0, f"report: {path}\n")
    text = path.read_text()
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    for part in ("Learning curves", "Log-likelihoods", "Do the modalities meet?", "Modality: lab", "Calibration"):
        assert f"<h2>{part}</h2>" in text
    assert "<td>lab</td>" in text.replace(' class="short"', "")


def test_report_without_data_says_so_and_shows_the_rest(table: Path, tmp_path: Path) -> None:
    moved = tmp_path / "gone.npz"
    (table / "t.npz").rename(moved)
    try:
        output = tmp_path / "r.html"
        assert mvae("report", table / "run", "-o", output, *FEW).code == 0
        text = output.read_text()
        assert "The data of this run is gone" in text
        assert "<h2>Learning curves</h2>" in text
        assert "Samples of lab" in text
        assert "Log-likelihoods" not in text
        assert "No sign that training was too short." in text  # nothing else can be checked
    finally:
        moved.rename(table / "t.npz")


def test_report_begins_with_what_a_later_section_finds_wrong(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Section("Calibration", ["Good.", "Too narrow."], faults=["Too narrow."])
    monkeypatch.setattr("mvae.runs.report.calibration_section", lambda *_: found)
    assert mvae("report", table / "run", "-o", tmp_path / "r.html", *FEW).code == 0
    text = (tmp_path / "r.html").read_text()
    first = text.partition("What to do next</h2>")[2].partition("<h2>")[0]
    assert "Too narrow." in first
    assert "Good." not in first
    assert "Nothing is known to be wrong" not in text


def test_report_shows_mixed_columns_one_by_one(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    lines = [
        f"{r.normal():.3f}" * (i % 5 > 1) + f",{'<i>' if r.random() < 0.5 else 'm'},{r.poisson(2)}" for i in range(150)
    ]
    (tmp_path / "p.csv").write_text("hb,sex,visits\n" + "\n".join([*lines, ",m,3", "1.5,,"]))
    train = "train", tmp_path / "p.csv", "--epochs", 1, "--run-dir", tmp_path / "run", "--device", "cpu", "--json"
    assert mvae(*train).code == 0
    assert mvae("report", tmp_path / "run", *FEW).code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text.partition("Training data and settings")[2])
    assert cells[:16] == [
        "p", "", "122", "14.2%", "", "hb", "72", "41.0%", "", "sex", "121", "0.8%", "", "visits", "121", "0.8%",
    ]  # fmt: skip
    for part in ("Filled-in cells", "Samples of hb", "How often each class of sex is drawn", "Calibration"):
        assert part in text
    assert "<i>" not in text.partition("<body>")[2]


def test_table_of_texts_only_has_no_imputed_cells(tmp_path: Path) -> None:
    r, words = np.random.default_rng(0), np.array(["the", "dog", "runs", "sleeps", "here"])
    lines = [",".join(" ".join(words[r.integers(0, 5, 4)]) for _ in range(2)) for _ in range(60)]
    (tmp_path / "t.csv").write_text("en,fr\n" + "\n".join(lines))
    declared = f'[data]\nsource = "{tmp_path / "t.csv"}"\n[model]\nname = "mvae"\nlatents = 2\n[training]\nepochs = 1\n'
    (tmp_path / "t.toml").write_text(declared + '[modalities.en]\nkind = "text"\n[modalities.fr]\nkind = "text"\n')
    trained = mvae("train", tmp_path / "t.toml", "--run-dir", tmp_path / "run", "--device", "cpu")
    assert trained.out.endswith(f"try next: mvae translate {tmp_path / 'run'} --to fr\n"), trained.err
    assert mvae("report", tmp_path / "run", *FEW).code == 0
    assert "Filled-in cells" not in (tmp_path / "run" / "report.html").read_text()


def test_report_shows_pictures(digits: Path, tmp_path: Path) -> None:
    result = mvae("report", digits, "-o", tmp_path / "d.html", "--json", *FEW)
    assert result.json()["report"] == str(tmp_path / "d.html")
    assert (tmp_path / "d.html").read_text().count('<img src="data:image/png;base64,') == 3


def test_compare_prints_a_table_and_writes_a_page(digits: Path, table: Path, tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    result = mvae("compare", digits, table / "run", "-o", page, *FEW)
    assert result.code == 0
    assert "log p(x1)" in result.out
    assert "x1, x2 …" in result.out
    assert "image, label" in result.out
    assert "Validation objective" in page.read_text()
    found = mvae("compare", digits, digits, "--json", *FEW).json()
    assert found["settings"] == []
    assert found["page"] is None


@pytest.mark.parametrize("way", ["report", "compare", "serve", "export"])
def test_missing_and_damaged_runs_are_refused(way: str, digits: Path, tmp_path: Path) -> None:
    if way == "serve":
        pytest.importorskip("gradio")
    run, checkpoint = tmp_path / "run", tmp_path / "run/checkpoint.safetensors"
    command = (way, run, *([tmp_path / "out"] if way == "export" else []))
    assert_refused(mvae(*command), "not a run directory")
    shutil.copytree(digits, run)
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    assert_refused(mvae(*command), "checkpoint.safetensors is damaged")
    checkpoint.unlink()
    assert_refused(mvae(*command), "no checkpoint at")
    (run / "run.json").write_text((run / "run.json").read_text()[:100])
    assert_refused(mvae(*command), "run.json is damaged")
    assert not (tmp_path / "out").exists()


def test_report_into_a_directory_is_refused(digits: Path, tmp_path: Path) -> None:
    assert_refused(mvae("report", digits, "-o", tmp_path, *FEW), "directory")
