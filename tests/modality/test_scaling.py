"""Real values in any unit: learning, generation and scores do not depend on it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mvae
from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import DataError
from mvae.evaluation.prediction import prediction_accuracy
from mvae.modality.base import Modality
from mvae.modality.scaling import VALUES, Scaling
from mvae.models.mvae import MVAE
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.testing import check_modality
from mvae.training.fit import fit

ROWS = 600


def income(rows: int = ROWS, seed: int = 0) -> Tensor:
    noise = torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 50_000 + 15_000 * noise


def rows_of(x: Tensor) -> dict[str, Tensor]:
    return {"income": x, "label": (x[:, 0] > 50_000).long()}


def model(likelihood: likelihoods.Likelihood | None = None, standardise: bool = True) -> MVAE:
    torch.manual_seed(0)
    own = Modality(mlp(1, 4), mlp(2, 1), likelihood or likelihoods.Gaussian(0.3), standardise=standardise)
    return MVAE({"income": own, "label": Modality(LabelEncoder(2, 4), mlp(2, 2), "categorical")}, 2)


def scaling(built: MVAE) -> Scaling:
    found = built.modalities["income"].scaling
    assert found is not None
    return found


def test_a_label_that_depends_on_an_income_in_dollars_is_learned() -> None:
    built = model()
    fit(built, rows_of(income()), epochs=15, anneal_epochs=3, learning_rate=5e-3, callbacks=[])
    assert prediction_accuracy(built, rows_of(income(400, seed=1)), ["income"], "label")[""].mean >= 0.95
    drawn = built.generate(of=["income"], n=2000, seed=0)["income"]
    assert float(drawn.mean()) == pytest.approx(50_000, abs=3_000)
    assert float(drawn.std()) == pytest.approx(15_000, rel=0.2)
    predicted = built.predict(rows_of(income(400, seed=1)), of="income")
    assert abs(float(predicted.mean()) - 50_000) < 5_000


@pytest.mark.parametrize("kind", [likelihoods.Gaussian, likelihoods.Laplace])
def test_log_p_is_the_density_of_the_users_values(kind: type) -> None:
    x = torch.stack([income()[:, 0], 3e-3 * torch.randn(ROWS).double()], 1)
    modality = Modality(nn.Linear(2, 4), nn.Linear(2, 2), kind(0.5))
    assert modality.scaling is not None
    modality.scaling.fit(Table({"x": x}), "x")
    z = torch.randn(ROWS, 2)
    mean, std = torch.from_numpy(x.numpy().mean(0)), torch.from_numpy(x.numpy().std(0))
    location = mean + std * modality.decode(z).detach().double()
    family = torch.distributions.Normal if kind is likelihoods.Gaussian else torch.distributions.Laplace
    expected = family(location, 0.5 * std).log_prob(x).sum(1)
    torch.testing.assert_close(modality.log_prob(modality.prepare(x), z).double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(modality.generate(z, mean=True).double(), location, rtol=1e-5, atol=0.01)
    check_modality(modality, x, 2)


def test_log_p_of_an_exact_model_is_in_the_users_units() -> None:
    """x = m + s(z + 0.5 e): the density is N(m, s² · 1.25), and importance sampling finds it."""

    class Exact(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # q(z | x) of z ~ N(0, 1), x ~ N(z, 1/4)
            return x, torch.full_like(x, math.log(0.25))

    decoder = nn.Linear(1, 1)
    with torch.no_grad():
        decoder.weight.fill_(1.0)
        decoder.bias.fill_(0.0)
    built = MVAE({"x": Modality(Exact(), decoder, likelihoods.Gaussian(0.5))}, 1)
    x = income()
    own = built.modalities["x"].scaling
    assert own is not None
    own.fit(Table({"x": x}), "x")
    m, s = float(x.mean()), float(x.std(correction=0))
    expected = torch.distributions.Normal(m, s * math.sqrt(1.25)).log_prob(x[:50, 0])
    found = mvae.log_likelihood(built, {"x": x[:50]}, ["x"], samples=50)
    torch.testing.assert_close(found.values.double(), expected, rtol=0, atol=1e-3)


def test_missing_cells_are_ignored_and_a_constant_has_scale_1() -> None:
    x = torch.cat([income(), torch.full((ROWS, 1), 0.1).double()], 1)
    holes = torch.rand(ROWS, generator=torch.Generator().manual_seed(3)) < 0.4
    spoilt = x.clone()
    spoilt[holes] = torch.tensor([math.nan, 1e30]).double()
    one, other = Scaling(), Scaling()
    one.fit(Table({"x": spoilt, "y": torch.zeros(ROWS)}, {"x": ~holes}), "x")
    other.fit(Table({"x": x[~holes]}), "x")
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.std, other.std)
    np.testing.assert_allclose(one.mean.numpy(), x[~holes].numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(one.std.numpy(), [x[~holes, 0].numpy().std(), 1.0], rtol=1e-12)
    nobody = Scaling()
    nobody.fit(Table({"x": x, "y": torch.zeros(ROWS)}, {"x": torch.zeros(ROWS, dtype=torch.bool)}), "x")
    assert not nobody.fitted


def test_statistics_of_memory_mapped_dates_are_exact(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), VALUES // 1000 + 700
    on_disk = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float64, shape=(rows, 10, 100))
    on_disk[:] = 1.7e9 + 1e6 * rng.standard_normal(on_disk.shape)
    own = Scaling()
    own.fit(Table({"when": on_disk}), "when")
    assert own.mean.shape == ()  # an event of two axes has one unit
    assert float(own.mean) == pytest.approx(on_disk.mean(), rel=1e-14)
    assert float(own.std) == pytest.approx(on_disk.std(), rel=1e-9)
    some = torch.from_numpy(on_disk[:5])
    found = own.standardised(some).float()
    torch.testing.assert_close(found.numpy(), np.float32((on_disk[:5] - on_disk.mean()) / on_disk.std()))
    assert float((own.in_units(found.double(), 1) - some).abs().max()) < 1.0  # second
    assert own.log_volume(torch.Size([10, 100])) == pytest.approx(1000 * math.log(on_disk.std()), rel=1e-9)


def test_statistics_survive_resuming_saving_and_fine_tuning(tmp_path: Path) -> None:
    straight, stopped, data = model(), model(), rows_of(income(60))
    fit(straight, data, epochs=3, callbacks=[])
    fit(stopped, data, epochs=2, run_dir=tmp_path, callbacks=[])
    resumed = model()
    fit(resumed, data, epochs=3, run_dir=tmp_path, resume=True, callbacks=[])
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    mvae.save(resumed, tmp_path / "saved")
    again = model()
    mvae.load(tmp_path / "saved", again)
    given = {"income": data["income"]}
    assert torch.equal(again.posterior(given).mean, straight.eval().posterior(given).mean)
    fit(again, rows_of(2 * income(60)), epochs=1, callbacks=[])  # fine-tuning keeps the units
    assert torch.equal(scaling(again).mean, scaling(straight).mean)


def test_statistics_keep_their_precision_in_bfloat16_models() -> None:
    built = model()
    scaling(built).fit(Table(rows_of(income())), "income")
    before = scaling(built).mean.clone()
    assert torch.equal(scaling(built.to(torch.bfloat16)).mean, before)


def test_scaling_is_optional_and_applied_only_after_fit() -> None:
    plain = model(standardise=False)
    fit(plain, {n: c / 50_000 if n == "income" else c for n, c in rows_of(income(60)).items()}, epochs=1, callbacks=[])
    assert plain.modalities["income"].scaling is None
    assert model().modalities["label"].scaling is None
    x = torch.randn(3, 1)
    assert torch.equal(model().modalities["income"].prepare(x), x)
    scaled = model()
    scaling(scaled).fit(Table(rows_of(income())), "income")
    with pytest.raises(DataError, match=r"rows of shape \(2,\); those trained on had \(1,\)"):
        scaled.modalities["income"].prepare(torch.zeros(3, 2))
