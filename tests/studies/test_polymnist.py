"""The study of PolyMNIST: the whole command at its smallest budget, and the published numbers."""

from pathlib import Path

import pytest
import torch

from mvae.data.table import Table
from mvae.paper.item import BUDGETS
from mvae.paper.results import read_rows
from mvae.runs.build import build
from mvae.studies.datasets.polymnist import MODALITIES
from mvae.studies.polymnist import MODELS, SPENDS, configured
from mvae.studies.polymnist_measures import FITTED, FLOW
from mvae.studies.polymnist_show import published
from tests.command import mvae


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_command_records_every_number_once_with_a_picture(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVAE_CACHE", str(cache))
    places = ("--results", tmp_path / "results", "--runs", tmp_path / "runs")
    words = ("reproduce", "polymnist", "--budget", "smoke", "--models", "mvae,jmvae", "--recipes", "coupled", *places)
    shown = mvae(*words)
    assert shown.code == 0, shown.err
    assert "coupled" in shown.out
    assert "published" in shown.out
    rows = read_rows(tmp_path / "results" / "polymnist.json")
    metrics = {model: {row["metric"] for row in rows if row["model"] == model} for model in ("mvae", "jmvae")}
    assert {f"coherence given {n}" for n in range(1, 5)} <= metrics["mvae"]
    assert {f"linear accuracy given {n}" for n in range(1, 6)} <= metrics["mvae"]
    assert {f"log p(x){suffix}" for suffix in ("", FITTED, FLOW)} <= metrics["mvae"]
    assert metrics["mvae"] - metrics["jmvae"] == {
        *(f"{what} given {n}" for what in ("coherence", "linear accuracy") for n in (2, 3, 4)),
        "log p(m0|rest)",
        "validation coherence given 4",
    }
    assert all(row["command"].startswith("mvae reproduce polymnist --models") for row in rows)
    assert len({(row["model"], row["metric"], row["settings"].get("step")) for row in rows}) == len(rows)
    assert (tmp_path / "results" / "polymnist-mvae-coupled-smoke.png").exists()
    assert (tmp_path / "results" / "polymnist.png").exists()
    assert mvae(*words).code == 0
    assert read_rows(tmp_path / "results" / "polymnist.json") == rows  # nothing is computed twice


def test_every_budget_is_defined() -> None:
    assert BUDGETS.keys() <= SPENDS.keys()


@pytest.mark.parametrize("model", MODELS)
def test_models_have_equal_networks_and_latent_dimensions(model: str) -> None:
    built, mvae_model = (build(configured(name, "coupled", "laptop")) for name in (model, "mvae"))
    assert built.latent_dim == 512
    sizes = [sum(p.numel() for p in one.modalities["m0"].decoder.parameters()) for one in (built, mvae_model)]
    assert (sizes[0] == sizes[1]) == (model != "mmvae_plus")  # its decoders take 256 of the latents
    assert built.modalities["m0"].likelihood.levels == 255


@pytest.mark.parametrize("model", MODELS)
def test_models_train_on_pictures(model: str) -> None:
    built = build(configured(model, "coupled", "smoke"))
    table = Table({name: torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8) for name in MODALITIES})
    built.check(table)
    loss = built(table).loss
    assert loss.isfinite()
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in built.parameters())


def test_published_numbers_are_fractions_with_a_source() -> None:
    for known in published()["coherence"]:
        assert len(known["given"]) == 4
        assert all(0 < value < 1 for value in known["given"])
        assert known["source"]
    assert all(0 < known["value"] < 1 and known["source"] for known in published()["single"])
