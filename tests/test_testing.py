"""The contract checks accept everything in the library, and name each kind of mistake."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, distributions, nn

from mvae import likelihoods, models
from mvae.errors import DataError, SettingsError
from mvae.gaussian import Gaussian, product
from mvae.modality.base import Modality
from mvae.modality.sentences import SentenceModality
from mvae.modality.strings import StringModality
from mvae.models.base import MultimodalVAE
from mvae.models.mvae import MVAE
from mvae.models.objective import Objective
from mvae.models.terms import Terms, full
from mvae.networks import build
from mvae.networks.mlp import mlp
from mvae.testing import check_likelihood, check_modality, check_model
from mvae.training.fit import fit

ROWS = 5
REAL = torch.randn(ROWS, 3)


@pytest.mark.parametrize("event", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("kind", ["bernoulli", "categorical", "gaussian", "laplace"])
def test_library_likelihoods_pass(kind: str, event: tuple[int, ...]) -> None:
    family = likelihoods.named({"name": kind, "learned": True} if kind in ("gaussian", "laplace") else kind)
    last = (4,) if kind == "categorical" else ()
    x = {"bernoulli": torch.rand(ROWS, *event).round(), "categorical": torch.randint(0, 4, (ROWS, *event))}
    check_likelihood(family, torch.randn(ROWS, *event, *last), x.get(kind, torch.randn(ROWS, *event)))


class Counts(likelihoods.Likelihood):
    """Poisson with a log-rate."""

    discrete = True

    def invalid_values(self, x: Tensor, params: Tensor) -> tuple[Tensor, str]:
        return (x < 0) | (x != x.round()), "counts"

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return distributions.Poisson(params.exp()).log_prob(x).flatten(params.dim() - x.dim() + 1).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        return params.exp()

    def mode(self, params: Tensor) -> Tensor:
        return params.exp().floor()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.poisson(params.exp(), generator)


def test_own_likelihood_passes() -> None:
    check_likelihood(Counts(), torch.randn(ROWS, 1), torch.randint(0, 9, (ROWS, 1)))


def broken(name: str, function: Any, base: type = likelihoods.Gaussian) -> likelihoods.Likelihood:
    found = type("Own", (base,), {name: function})()
    assert isinstance(found, likelihoods.Likelihood)
    return found


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("log_prob", lambda self, p, x: self.elementwise(p, x), r"log_prob\(params, x\) has shape \(5, 3\); \(5,\)"),
        ("log_prob", lambda self, p, x: -((p - x) ** 2).sum((-1, -2)), r"log_prob\(params, x\) has shape \(\)"),
        ("elementwise", lambda self, p, x: (p - x) / 0, "log_prob is not finite"),
        ("elementwise", lambda self, p, x: (p - x.mean(0)) ** 2, "of the first row alone"),
        ("elementwise", lambda self, p, x: -((p.detach() - x) ** 2) + 0 * p, "no gradient of log_prob reaches"),
        ("mean", lambda self, p: p.sum(-1), r"Own.mean\(params\) has shape \(5,\); \(5, 3\) is needed"),
        ("mean", lambda self, p: p + 1, "the average of samples differs from mean"),
        ("sample", lambda self, p, generator=None: torch.randn(p.shape), "differs for the same generator"),
        ("sample", lambda self, p, generator=None: p[0], r"sample\(params, generator\) has shape \(3,\)"),
        ("sample", lambda self, p, generator=None: p / 0, "finite numbers are needed"),
        ("invalid_values", lambda self, x, p: (x.sum() < 0, "any"), "must be a mask of x's shape"),
        ("prepare", lambda self, x, dtype: x.flatten(), r"prepare\(x\) has shape \(15,\)"),
    ],
)
def test_broken_likelihood_is_reported(name: str, function: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_likelihood(broken(name, function), torch.randn(ROWS, 3), REAL)


def test_wrong_mode_is_reported() -> None:
    x = torch.tensor([[1.0, 1, 1]])
    with pytest.raises(AssertionError, match=r"mode\(params\) is less probable than x"):
        check_likelihood(broken("mode", lambda self, p: torch.zeros_like(p), likelihoods.Bernoulli), 3 * x, x)


@pytest.mark.parametrize("event", [(2,), (20,)])
def test_probabilities_that_do_not_sum_to_1_are_reported(event: tuple[int, ...]) -> None:
    def halved(self: Any, params: Tensor, x: Tensor) -> Tensor:
        return likelihoods.Bernoulli().elementwise(params, x) - 0.7

    def summed(self: Any, params: Tensor, x: Tensor) -> Tensor:
        return halved(self, params, x).sum(-1)

    family = type("Own", (likelihoods.Bernoulli,), {"elementwise": halved, "log_prob": summed})()
    with pytest.raises(AssertionError, match="the log of the sum of all probabilities"):
        check_likelihood(family, torch.randn(ROWS, *event), torch.rand(ROWS, *event).round())


def test_value_outside_the_support_is_reported() -> None:
    with pytest.raises(AssertionError, match=r"values in \[0, 1\] .*are needed, not \[2.0\]"):
        check_likelihood(likelihoods.Bernoulli(), torch.randn(2, 1), torch.tensor([[0.0], [2.0]]))


# -- Modalities ----------------------------------------------------------------------------------------------------


def strings() -> Modality:
    parts = (build("gru", inputs=(9,), outputs=6, role="encoder"), build("gru", inputs=3, outputs=(9,), role="decoder"))
    return StringModality(*parts, symbols=9, length=4)


def sentences() -> Modality:
    encoder = build("lstm", inputs=(20,), outputs=6, role="encoder")
    return SentenceModality(encoder, build("lstm", inputs=3, outputs=(20,), role="decoder"), length=6)  # pyright: ignore


def normed() -> Modality:
    parts = mlp(3, 6, (5,), batch_norm=True), mlp(3, 3, (5,), batch_norm=True)
    return Modality(*parts, {"name": "gaussian", "learned": True}, augment={"name": "noise", "std": 0.1})


@pytest.mark.parametrize(
    ("modality", "x"),
    [
        (normed(), REAL),
        (
            Modality(mlp(12, 6), mlp(3, 12), likelihoods.Bernoulli(levels=255)),
            torch.randint(0, 256, (ROWS, 1, 3, 4), dtype=torch.uint8),
        ),
        (Modality(mlp(1, 6), nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), "laplace"), torch.randn(ROWS)),
        (strings(), torch.tensor([[1, 2, 3, 4], [1, 9, 9, 9], [9, 9, 9, 9]])),
        (sentences(), torch.tensor([[7, 3, 0, 0, 0], [9, 0, 0, 0, 0]])),
        (Modality(mlp(1, 6), mlp(3, 1), Counts()), torch.randint(0, 9, (ROWS, 1))),
    ],
    ids=["normed", "bytes", "scalars", "strings", "sentences", "counts"],
)
def test_library_modalities_pass_and_stay_unchanged(modality: Modality, x: Tensor) -> None:
    before = {name: value.clone() for name, value in modality.state_dict().items()}
    state = torch.get_rng_state()
    check_modality(modality, x, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert modality.training
    assert all(p.grad is None for p in modality.parameters())
    assert all(torch.equal(before[name], value) for name, value in modality.state_dict().items())


class Mixing(nn.Module):
    """Subtracts the mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0))


class IgnoresLatents(nn.Module):
    """Ignores z."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(3))

    def forward(self, z: Tensor) -> Tensor:
        return self.values.expand(len(z), -1)


class OwnDraws(Modality):
    def generate(self, z: Tensor, context: Any = None, *, mean: bool = False, generator: Any = None) -> Tensor:
        return torch.randn(*z.shape[:-1], 3)


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        (Modality(Mixing(), mlp(3, 3), "gaussian"), "encode of the first row alone: mean"),
        (Modality(mlp(3, 6), IgnoresLatents(), "gaussian"), "does not depend on z"),
        (OwnDraws(mlp(3, 6), mlp(3, 3), "gaussian"), r"generate\(z\) differs for the same generator"),
        (Modality(mlp(3, 6), mlp(3, 3), broken("mean", lambda self, p: p + 1)), "the average of samples differs"),
    ],
)
def test_broken_modality_is_reported(modality: Modality, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_modality(modality, REAL, 3)


def parts(*names: str) -> dict[str, Modality]:
    torch.manual_seed(0)
    return {name: Modality(mlp(3, 6), mlp(3, 3), "gaussian") for name in names}


@pytest.mark.parametrize(
    "kind", ["MVAE", "MMVAE", "MoPoE", "MVTCAE", "BiVCCA", "JMVAE", "TELBO", "MMVAEPlus", "MMVM", "MVAEQ"]
)
def test_library_models_pass(kind: str) -> None:
    check_model(getattr(models, kind)(parts("a", "b"), 3), {"a": REAL, "b": REAL.flip(0)})


def test_a_model_of_several_stages_passes_before_and_after_training() -> None:
    model = models.TELBO(parts("a", "b"), 3)
    fit(model, {"a": REAL, "b": REAL.flip(0)}, epochs=1, callbacks=[])
    check_model(model, {"a": REAL, "b": REAL.flip(0)})


class BrokenLater(models.TELBO):
    def terms(self, present: Tensor, generator: torch.Generator | None = None) -> Terms:
        found = super().terms(present, generator)
        return replace(found, weight=torch.full_like(found.weight, torch.nan)) if self.stage == "unimodal" else found


def test_every_stage_is_checked() -> None:
    with pytest.raises(AssertionError, match="the loss is nan"):
        check_model(BrokenLater(parts("a", "b"), 3), {"a": REAL, "b": REAL.flip(0)})


class Own(MultimodalVAE):
    """A product of experts."""

    def combine(self, experts: Gaussian, given: Tensor) -> Gaussian:
        return product(experts, given)


class Greedy(Own):
    def terms(self, present: Tensor, generator: torch.Generator | None = None) -> Terms:
        return full(torch.ones_like(present), self.names)


class ReadsMissing(Own):
    """Its penalty reads missing cells."""

    def objective(self, x: dict[str, Tensor], terms: Terms, noise: Tensor, beta: float | Tensor = 1.0) -> Objective:
        found = super().objective(x, terms, noise, beta)
        return replace(found, loss=found.loss + sum(column.sum() for column in x.values()))


class Lazy(Own):
    def terms(self, present: Tensor, generator: torch.Generator | None = None) -> Terms:
        return replace(full(present, self.names), weight=torch.zeros(1, len(present)))


class Averaging(Own):
    def combine(self, experts: Gaussian, given: Tensor) -> Gaussian:
        found = product(experts, given)
        return Gaussian(found.precision, found.shift + found.shift.mean(1, keepdim=True))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Greedy, r"terms\(present\).given names a modality that a row does not have"),
        (ReadsMissing, "the loss, with other values in missing cells"),
        (Lazy, "no gradient of the loss reaches a's encoder"),
        (Averaging, r"the mean of posterior\(data, \['a'\]\) of the first row alone"),
    ],
)
def test_broken_model_is_reported(kind: type[MultimodalVAE], message: str) -> None:
    data = {"a": REAL, "b": REAL.flip(0)}
    check_model(Own(parts("a", "b"), 3), data)
    with pytest.raises(AssertionError, match=message):
        check_model(kind(parts("a", "b"), 3), data)


def test_overridden_methods_are_refused_or_called() -> None:
    """A subclass's ``encode``, ``log_prob``, ``forward`` and ``expert`` are not silently ignored."""
    for name, hook in (("encode", "expert_parameters"), ("log_prob", "assess")):
        with pytest.raises(SettingsError, match=f"Mine overrides {name}, which comes from {hook}: override {hook}"):
            type("Mine", (Modality,), {name: lambda self, *_: None})
    mine = type("Mine", (MVAE,), {"forward": lambda self, *_: None})
    with pytest.raises(SettingsError, match="Mine overrides forward, which fit does not call: override objective"):
        fit(mine(parts("a"), 3), {"a": REAL}, epochs=1, callbacks=[])
    seen: list[str] = []

    class Experts(MVAE):
        def expert(self, name: str, x: Tensor, context: Tensor | None = None) -> Gaussian:
            seen.append(name)
            return super().expert(name, x, context)

    Experts(parts("a", "b"), 3).posterior({"a": REAL, "b": REAL})  # similar networks usually run together
    assert seen == ["a", "b"]


def test_checks_accept_arrays_and_lists() -> None:
    check_modality(parts("a")["a"], REAL.numpy(), 3)
    check_likelihood(likelihoods.Gaussian(), REAL + 1, REAL.tolist())


def test_modality_that_does_not_fit_the_data_is_reported() -> None:
    with pytest.raises(DataError, match="the decoder gives 4 values per row"):
        check_modality(Modality(mlp(3, 6), mlp(3, 4), "gaussian"), REAL, 3)
    with pytest.raises(AssertionError, match=r"row 1: values in \[0, 1\] .*are needed"):
        check_modality(Modality(mlp(3, 6), mlp(3, 3), "bernoulli"), torch.tensor([[0.0, 0, 0], [2, 0, 0]]), 3)
