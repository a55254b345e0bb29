"""Do modalities meet? Constructed posteriors whose coupling and KL are known, an exact model, and the warnings."""

import math

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.evaluation.coupling import coupling_warning
from mvae.evaluation.validation import validate
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import mlp
from tests.oracle import naive_kl

ROWS = 40


class Says(nn.Module):
    """An expert of the given precision about one latent, whose mean is the input; it knows nothing about the other."""

    def __init__(self, latent: int, precision: float):
        super().__init__()
        self.latent, self.precision = latent, precision

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = torch.zeros(len(x), 2).to(x.dtype), torch.full((len(x), 2), 20.0).to(x.dtype)
        mean[:, self.latent] = x.reshape(len(x), -1)[:, 0]
        log_var[:, self.latent] = -math.log(self.precision)
        return mean, log_var


def saying(**experts: tuple[int, float]) -> MVAE:
    return MVAE(
        {
            name: Modality(Says(*expert), nn.Linear(2, 1).double(), likelihoods.Gaussian().double())
            for name, expert in experts.items()
        },
        2,
        cross_from=(),
    )


def column(rows: int = ROWS, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed)).double()


def kl_of(x: Tensor, precision: float) -> float:
    """Mean over rows of KL[N(Px/(1+P), 1/(1+P)), N(0, 1)]: the expert N(x, 1/P) times the prior."""
    mean, variance = precision * x / (1 + precision), torch.full_like(x, 1 / (1 + precision))
    return float(torch.stack([naive_kl(m, v) for m, v in zip(mean, variance, strict=True)]).mean())


# -- Coupling ------------------------------------------------------------------------------------------------------


def test_codes_side_by_side_have_no_coupling() -> None:
    a, b = column(), column(seed=1)
    values = validate(saying(a=(0, 9.0), b=(1, 3.0)), Table({"a": a, "b": b}))
    assert values["kl complete/a"] == pytest.approx(kl_of(a, 9.0), abs=1e-6)
    assert values["kl complete/b"] == pytest.approx(kl_of(b, 3.0), abs=1e-6)
    assert values["kl complete/full"] == pytest.approx(kl_of(a, 9.0) + kl_of(b, 3.0), abs=1e-6)
    assert values["coupling"] == pytest.approx(0, abs=1e-6)
    assert values["coupling/share"] == pytest.approx(0, abs=1e-6)


def test_a_code_contained_in_the_others_is_fully_coupled() -> None:
    a = column()
    values = validate(saying(a=(0, 1e7), b=(0, 3.0)), Table({"a": a, "b": a}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(1, abs=1e-5)


def test_coupling_of_three_modalities_adds_up() -> None:
    """a and b say the same, c something else: of what could be shared, C_max = Σ KL − max KL, b's part is."""
    a, c = column(), column(seed=1)
    values = validate(saying(a=(0, 1e7), b=(0, 3.0), c=(1, 5.0)), Table({"a": a, "b": a, "c": c}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(kl_of(a, 3.0) / (kl_of(a, 3.0) + kl_of(c, 5.0)), abs=1e-5)


def test_coupling_is_measured_on_complete_rows_only() -> None:
    model, a = saying(a=(0, 9.0), b=(0, 3.0)), column()
    complete = validate(model, Table({"a": a, "b": a}))
    wild = Table(
        {"a": torch.cat([a, 50 + a]), "b": torch.cat([a, torch.full_like(a, math.nan)])},
        {"b": torch.arange(2 * ROWS) < ROWS},
    )
    mixed = validate(model, wild)
    for name in complete:
        if name.startswith(("coupling", "kl complete", "active", "log p")):
            assert mixed[name] == pytest.approx(complete[name]), name
    assert mixed["kl/a"] > complete["kl/a"] + 10  # while the terms' own KLs are of every row that has them


def test_nothing_is_said_about_coupling_where_no_row_is_complete() -> None:
    x = column()
    first = torch.arange(ROWS) < 20
    values = validate(saying(a=(0, 9.0), b=(0, 3.0)), Table({"a": x, "b": x}, {"a": first, "b": ~first}))
    assert not [name for name in values if name.startswith(("coupling", "kl complete", "active", "log p"))]
    assert coupling_warning(values, ("a", "b")) is None
    assert all(math.isfinite(value) for value in values.values())


def test_a_column_that_no_row_has_makes_no_number() -> None:
    values = validate(saying(a=(0, 9.0), b=(0, 3.0)), Table({"a": column()}))
    assert not [name for name in values if "b" in name.split("/")]
    assert all(math.isfinite(value) for value in values.values())


def test_a_dead_expert_is_seen_by_validation() -> None:
    values = validate(saying(a=(0, 9.0), b=(1, 1e-4)), Table({"a": column(), "b": column(seed=1)}))
    assert values["kl complete/b"] == pytest.approx(kl_of(column(seed=1), 1e-4), abs=1e-6)
    assert "expert of b is dead" in str(coupling_warning(values, ("a", "b")))


def test_a_model_of_one_modality_has_no_coupling() -> None:
    values = validate(saying(a=(0, 9.0)), Table({"a": column()}))
    assert "coupling" not in values
    assert values["kl/a"] == pytest.approx(kl_of(column(), 9.0), abs=1e-6)


# -- Predictions of one modality from another ----------------------------------------------------------------------


class Scores(nn.Module):
    """Logits (−z0, z0)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([-z[:, 0], z[:, 0]], 1)


def test_each_modality_is_predicted_from_the_mean_of_each_others_posterior() -> None:
    x = column()
    label = (x[:, 0] > 0).long()
    label[:10] = 1 - label[:10]  # a quarter of them wrong
    tags = torch.stack([1 - label, label], 1).double()
    image = torch.rand(ROWS, 1, 2, 1).double()
    model = MVAE(
        {
            "x": Modality(Says(0, 9.0), nn.Linear(2, 1).double(), likelihoods.Gaussian().double()),
            "label": Modality(mlp(1, 4, []).double(), Scores(), likelihoods.Categorical()),
            "tags": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
            "image": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
        },
        2,
        cross_from=(),
    )
    model.modalities["label"].encoder = nn.Sequential(nn.Embedding(2, 4)).double()
    values = validate(model, Table({"x": x, "label": label, "tags": tags, "image": image}))
    assert values["accuracy x->label"] == 0.75
    assert values["accuracy x->tags"] == 0.75
    z = 0.9 * x[:, 0]
    log_p = torch.where(label == 1, 2 * z, -2 * z).sigmoid().log().mean()  # softmax(−z, z) is σ(±2z)
    assert values["log p x->label"] == pytest.approx(float(log_p))
    one, other = torch.where(label == 1, z, -z).sigmoid().log(), torch.where(label == 1, -z, z).neg().sigmoid().log()
    assert values["log p x->tags"] == pytest.approx(float((one + other).mean()))
    assert not [name for name in values if name.endswith(("->image", "->x")) and name.startswith("accuracy")]
    pairs = {f"{a}->{b}" for a in model.names for b in model.names if a != b}
    assert {name.removeprefix("log p ") for name in values if name.startswith("log p ")} == pairs


def test_active_units_are_the_latents_whose_mean_varies() -> None:
    a = column()
    values = validate(saying(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 0.01 * column(seed=1)}))
    assert values["active units/a"] == 1
    assert values["active units/b"] == 0  # it varies by (0.9 · 0.01)², less than 0.01
    assert values["active units"] == 1
    values = validate(saying(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 3 + column(seed=1)}))
    assert values["active units"] == 2
