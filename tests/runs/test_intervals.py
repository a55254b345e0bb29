"""Stretched draws: intervals are calibrated although the model's scales are wrong by a known factor."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import mvae
from mvae.data.table import Table
from mvae.data.tables.tensors import observed_of
from mvae.evaluation.impute import impute
from mvae.runs import intervals
from mvae.runs.held_back import held_back
from mvae.runs.intervals import stretch_draws
from tests.evaluation.test_impute import SD, W, model
from tests.patients import FEW, csv_of, patients

ROWS = 1_500


def complete(seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    z, noise = torch.randn(ROWS, 2, generator=g).double(), torch.randn(ROWS, 4, generator=g).double()
    return z @ W.T + SD * noise


def wrong_by(factor: float) -> mvae.MVAE:
    net = model()
    net.modalities["x"].likelihood.families[0].log_scale.data += np.log(factor)  # pyright: ignore
    return net


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_intervals_cover_90_percent_for_any_scale(factor: float, cut: bool) -> None:
    x, test, net = complete(), complete(7), wrong_by(factor)
    if cut:  # such as rain
        x, test = x.clamp(min=0), test.clamp(min=0)
        scaling = cast("mvae.Columns", net.modalities["x"]).scaling
        scaling.mean, scaling.std, scaling.fitted = torch.zeros(4).double(), torch.ones(4).double(), True
        scaling.least, scaling.most = x.aminmax(dim=0)
    shown, held = held_back(Table({"x": x}), seed=1)
    stretch_draws(net, Table({"x": x}), held)
    stretch = float(net.modalities["x"].stretch)  # pyright: ignore
    assert cut or (stretch > 1.2 if factor < 1 else 0.85 < stretch < 1.2 if factor == 1 else stretch < 0.8)
    observed = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(2)) < 0.7
    observed[:, 0] |= ~observed.any(1)
    found = impute(net, Table({"x": test}, {"x": observed}), interval=0.9, samples=200)
    inside = (test >= found.low["x"]) & (test <= found.high["x"])
    share = inside[~observed].double().mean().item()
    assert share == pytest.approx(0.9, abs=0.04)
    assert np.array_equal(observed_of(shown, "x"), ~held["x"])


def test_mostly_zero_columns_do_not_narrow_other_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns depend on no latent and are 0 in nine of ten rows; the model's scales are right."""
    monkeypatch.setattr(intervals, "OFTEN", 0.8)  # of a column's values: few hidden values are in each row
    net = wrong_by(1.0)
    own, middle = cast("mvae.Columns", net.modalities["x"]), torch.tensor([-1.3, -1.3, 0, 0]).double() * SD
    own.decoder = torch.nn.Linear(2, 4).double()
    own.decoder.weight.data, own.decoder.bias.data = W.clone(), middle.clone()
    cast("Any", own.encoder).w.data[:2] = own.decoder.weight.data[:2] = 0

    def drawn(seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        z, noise = torch.randn(ROWS, 2, generator=g).double(), torch.randn(ROWS, 4, generator=g).double()
        x = own.decoder(z).detach() + SD * noise
        return torch.cat([x[:, :2].clamp(min=0), x[:, 2:]], 1)

    x, test = drawn(0), drawn(1)
    own.scaling.mean, own.scaling.std, own.scaling.fitted = torch.zeros(4).double(), torch.ones(4).double(), True
    own.scaling.least, own.scaling.most = x.aminmax(dim=0)
    stretch_draws(net, Table({"x": x}), held_back(Table({"x": x}), seed=1)[1])
    assert float(own.stretch) == pytest.approx(1, abs=0.15)
    for factor in (float(own.stretch), 0.6):  # draws of 0 stay 0
        own.stretch.fill_(factor)
        observed = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(2)) < 0.7
        observed[:, 0] |= ~observed.any(1)
        found = impute(net, Table({"x": test}, {"x": observed}), interval=0.9, samples=200)
        inside = (test >= found.low["x"]) & (test <= found.high["x"])
        shares = [float(inside[~observed[:, i], i].double().mean()) for i in range(4)]
        assert min(shares[:2]) > 0.88
        assert factor == 0.6 or shares[2:] == pytest.approx([0.9, 0.9], abs=0.05)


def test_draws_are_stretched_about_their_mean() -> None:
    own = mvae.Columns.of(["a", {"name": "b", "kind": "positive"}, {"name": "c", "kind": "count"}], 2, [4])
    own.stretch.fill_(2.0)
    draws = torch.tensor([[[1.0, 2.0, 3.0]], [[3.0, 8.0, 5.0]]])
    found = own.stretched(draws, torch.tensor([[2.0, np.log(4.0), 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0, 3.0]], [[4.0, 16.0, 5.0]]]))


def test_stretch_is_saved_with_the_run(tmp_path: Path) -> None:
    source = csv_of(patients(300), tmp_path, "patients.csv")
    config = mvae.Config.from_dict({"data": {"source": str(source)}}).change(FEW)
    run, _ = mvae.train(config, tmp_path / "run", callbacks=[])
    learned = {n: float(m.stretch) for n, m in run.model.modalities.items()}  # pyright: ignore
    assert any(value != 1 for value in learned.values())
    again = mvae.load(tmp_path / "run")
    assert {n: float(m.stretch) for n, m in again.modalities.items()} == learned  # pyright: ignore
