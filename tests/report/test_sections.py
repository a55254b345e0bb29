"""The sections of a report for models and numbers whose results are known."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

import mvae
from mvae.data.table import Table
from mvae.evaluation.likelihood import LogLikelihood
from mvae.report.advice import advice, course_advice
from mvae.report.calibration import _verdict, calibration_section, coverage, reliability
from mvae.report.fields import without_field
from mvae.report.history import history_section
from mvae.report.latents import latents_section, main_axes
from mvae.report.likelihoods import by_modality, trust
from mvae.report.modalities import modality_section
from mvae.report.page import Chart, Grid
from mvae.report.pairs import pairs_section
from mvae.report.views import View, view_of
from mvae.runs.answers import draws_given
from mvae.runs.report import _next_steps
from tests.small_training import columns, incomplete, model


def test_curves_say_which_epochs_they_leave_out_and_accuracies_are_not_negative() -> None:
    rows = [{"epoch": i, "validation/objective": 9.0, "validation/accuracy a->b": 0.1} for i in range(1, 21)]
    objective, accuracy = history_section(rows).shown
    assert isinstance(objective, Chart)
    assert isinstance(accuracy, Chart)
    assert objective.note == "The first tenth of the epochs is left out."
    assert [len(chart.data[0]["x"]) for chart in (objective, accuracy)] == [18, 20]
    assert (accuracy.note, accuracy.layout["yaxis"]["rangemode"]) == ("", "nonnegative")
    few = history_section(rows[:9]).shown[0]
    assert isinstance(few, Chart)
    assert (few.note, len(few.data[0]["x"])) == ("", 9)


def test_main_axes_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(40, 5)) @ np.diag([5.0, 3.0, 1.0, 0.1, 0.1])
    places, shares = main_axes(x)
    pca = PCA(2).fit(x)
    np.testing.assert_allclose(np.abs(places), np.abs(pca.transform(x)), atol=1e-9)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_)
    assert main_axes(np.ones((3, 1)))[0].tolist() == [[0.0, 0.0]] * 3


def test_intervals_of_the_true_distribution_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    found = dict(coverage(rng.normal(size=4000), rng.normal(size=(500, 4000))))
    for level, share in found.items():
        assert share == pytest.approx(level, abs=0.03)
    assert dict(coverage(2 * rng.normal(size=4000), rng.normal(size=(500, 4000))))[0.9] < 0.7


def test_intervals_of_counts_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    for level, share in coverage(rng.poisson(1.5, 4000).astype(float), rng.poisson(1.5, (500, 4000)).astype(float)):
        assert share == pytest.approx(level, abs=0.03)


def test_miscalibration_is_reported_only_beyond_chance() -> None:
    for share, values, said in ((1.0, 28, ""), (1.0, 60, ": too wide"), (0.79, 20, ""), (0.75, 20, ": too narrow"),
                                (0.79, 300, ": too narrow"), (0.85, 300, "")):  # fmt: skip
        verdict, wrong = _verdict("hb", share, values)
        assert verdict.startswith(f"90 % intervals of hb cover {share:.0%} of {values} held-out values{said}")
        assert ("too" in verdict) == wrong == bool(said)


def test_intervals_that_miss_every_value_are_a_fault() -> None:
    shown = [view for view in views() if view.kind == "numbers"]
    net = model().eval()
    far = Table({**columns(200), "sound": columns(200)["sound"] + 100})
    section = calibration_section(net, far, shown, draws_given)
    (said,) = section.text
    assert said.startswith("90 % intervals of sound cover 0% of")
    assert section.faults == [said]


def test_a_single_curve_has_a_legend() -> None:
    """Otherwise nothing shows which modality is predicted from which."""
    rows = [{"epoch": i, "validation/accuracy image->label": 0.5} for i in range(1, 4)]
    (chart,) = history_section(rows).shown
    assert isinstance(chart, Chart)
    assert chart.layout["showlegend"]
    assert chart.data[0]["name"] == "image-&gt;label"


def test_reliability_matches_confidence_and_needs_enough_predictions() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    for confident, right in reliability(confidence, rng.random(20_000) < confidence):
        assert right == pytest.approx(confident, abs=0.03)
    assert reliability(np.full(19, 0.9), np.ones(19, bool)) == []


def estimate(k: float, ess: float) -> LogLikelihood:
    n = 10
    full = [torch.full((n,), value, dtype=torch.float32) for value in (-3.0, ess, k, 1.0)]
    return LogLikelihood(torch.arange(n), *full)


def test_a_likelihood_is_trusted_by_its_diagnostics() -> None:
    assert trust(estimate(0.3, 200)).startswith("Trustworthy")
    assert trust(estimate(0.3, 3)).startswith("With care")
    assert trust(estimate(0.9, 200)).startswith("Do not trust")
    assert trust(estimate(math.nan, 5)).startswith("Too few")


def test_advice_names_the_problem() -> None:
    assert advice({}, ["a", "b"], {}, ()) == []
    dead = advice({"dead/a": 0.0}, ["a", "b"], {"log p(x1)": estimate(0.9, 5)}, ())
    assert "expert of a is dead" in dead[0]
    assert "log p(x1) is estimated badly" in dead[1]
    said = advice({}, ["a", "b"], by_modality({"log p(x1|x2)": estimate(0.9, 5)}, ["a", "b"]), ())
    assert said[0].startswith("log p(a | b) is estimated badly")
    best_early = [{"epoch": i, "beta": 1.0, "validation/objective": 100.0 + abs(i - 10)} for i in range(1, 51)]
    assert "overfits" in course_advice(best_early, 10)[0]
    flat = [{"epoch": i, "beta": 1.0, "validation/objective": 100.0} for i in range(1, 51)]
    assert course_advice(flat, 45) == []


def test_learning_curves_have_a_chart_for_each_logged_metric() -> None:
    rows = [
        {"epoch": i, "train/loss": 2.0, "train/reconstruction/a": 1.0, "validation/coupling": 0.1} for i in range(1, 4)
    ]
    assert [part.title for part in history_section(rows).shown if isinstance(part, Chart)] == [
        "Objective (lower is better)",
        "Reconstruction in training",
        "Coupling of validation rows",
    ]
    assert history_section([]).text == ["No epoch has ended yet."]


def test_the_heat_map_shows_the_gains() -> None:
    section = pairs_section({"gain a->b": 1.5, "gain b->a": -0.5, "coupling": 1.0, "coupling/share": 0.5}, ["a", "b"])
    chart = section.shown[0]
    assert isinstance(chart, Chart)
    assert chart.data[0]["z"] == [[None, 1.5], [-0.5, None]]
    assert "C = 1.00 nats, 50%" in section.text[0]


def views() -> list[View]:
    parts, shapes = model().modalities, {"image": (4,), "label": (), "sound": (3,)}
    return [view_of(name, parts[name], shapes[name], classes=["x", "y", "z"]) for name in parts]


@pytest.mark.parametrize("table", [Table(columns(200)), incomplete()], ids=["complete", "incomplete"])
def test_every_section_of_a_model_has_content(table: Table) -> None:
    net, shown = model().eval(), views()
    assert [view.kind for view in shown] == ["flags", "classes", "numbers"]
    for view in shown:
        section = modality_section(net, table, view, draws_given)
        assert len(section.shown) >= 3
        assert not section.text
    assert latents_section(net, table, shown).shown
    if len(table) > 100:
        calibration = calibration_section(net, table, shown, draws_given)
        assert any("90 % intervals of sound" in text for text in calibration.text)


def test_without_data_only_samples_are_shown() -> None:
    section = modality_section(model().eval(), None, views()[1], draws_given)
    (chart,) = section.shown
    assert isinstance(chart, Chart)
    assert isinstance(chart.table, Grid)
    assert [row[0] for row in chart.table.rows] == ["x", "y", "z"]
    assert chart.table.header == ["", "samples"]


def test_an_untrained_modality_is_not_drawn() -> None:
    net = model().eval()
    net.untrained = ("sound",)
    section = modality_section(net, Table(columns(50)), views()[2], draws_given)
    assert "No training row had sound" in section.text[0]
    assert not section.shown


def test_without_field_hides_an_observed_field() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    there = torch.tensor([[True, True], [False, True], [True, False], [True, True]])
    table = Table({"t": values, "a": torch.zeros(4)}, {"t": there, "a": torch.tensor([True, True, False, False])})
    given, rows = without_field(table, "t", 0, torch.arange(4))
    assert rows.tolist() == [0, 3]  # the second row is missing the field, the third has nothing else
    assert given is not None
    assert given.values_of("t", torch.arange(2)).tolist() == [[False, True], [False, True]]  # pyright: ignore
    assert given.has("a").tolist() == [True, False]
    assert table.values_of("t", torch.arange(4)).tolist() == there.tolist()  # pyright: ignore


def test_fields_are_shown_by_kind() -> None:
    fields = ["hb", {"name": "ward", "kind": "categorical", "classes": 3}, {"name": "seen", "kind": "date"}]
    columns = mvae.Columns.of(fields, latent_dim=2)
    view = view_of("t", columns, (3,), classes={"ward": ["a", "b", "c"]})
    assert [field.kind for field in view.fields] == ["numbers", "classes", "numbers"]
    assert view.fields[1].classes == ("a", "b", "c")
    assert view.fields[2].date
    g = torch.Generator().manual_seed(0)
    x = torch.stack([torch.randn(80, generator=g), torch.randint(0, 3, (80,), generator=g), 1e9 * torch.rand(80)], 1)
    there = torch.rand(80, 3, generator=g) < 0.8
    there[:, 0] |= ~there.any(1)
    table = Table({"t": x.double()}, {"t": there})
    model = mvae.MVAE({"t": columns}, latent_dim=2)
    section = modality_section(model, table, view, draws_given)
    assert [part.title for part in section.shown if isinstance(part, Chart)] == [
        "Samples of hb",
        "How often each class of ward is drawn",
        "Samples of seen",
    ]
    assert {row[0] for part in section.shown if isinstance(part, Grid) for row in part.rows} == {
        "hb",
        "ward",
        "seen",
    }
    dates = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?")
    chart, grid = section.shown[2:]
    assert isinstance(chart, Chart)
    assert isinstance(grid, Grid)
    assert chart.layout["xaxis"]["type"] == "date"
    assert all(x[10] == "T" for x in chart.data[0]["x"])
    assert all(dates.fullmatch(cell) for row in chart.table.rows for cell in row[2:])
    assert all(dates.fullmatch(cell) for row in grid.rows if row[0] == "seen" for cell in row[1:])
    assert any("90 % intervals of hb" in text for text in calibration_section(model, table, [view], draws_given).text)
    (points,) = latents_section(model, table, [view]).shown
    assert isinstance(points, Chart)
    ticks = [trace["marker"]["colorbar"]["ticktext"] for trace in points.data if "colorbar" in trace["marker"]]
    assert len(ticks) == 1
    assert all(map(dates.fullmatch, ticks[0]))


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (None, "can be checked only with the data"),
        ({"kl/a": 1.0}, "Whether modalities are coupled was not checked"),
        ({"gain a->b": 1.0}, "no uncoupled modality"),
    ],
)
def test_next_steps_name_only_what_was_checked(measured: Any, message: str) -> None:
    (text,) = _next_steps([], measured).text
    assert message in text
    assert ("uncoupled" in text) == (measured is not None and "gain a->b" in measured)
    assert _next_steps(["advice"], measured).text == ["advice"]
