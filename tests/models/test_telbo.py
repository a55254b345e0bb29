"""TELBO: the joint model first, then a unimodal encoder for each modality with everything else frozen."""

import pytest
import torch
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.modality.base import Modality
from mvae.modality.columns import Columns
from mvae.models.jmvae import JMVAE
from mvae.models.telbo import TELBO
from mvae.networks.mlp import mlp
from mvae.training.callbacks import Callback
from mvae.training.fit import fit
from mvae.training.stages import Stages
from tests.models.common import (
    KINDS,
    Normal,
    assert_naive,
    assert_posterior,
    bound,
    complete,
    expert,
    gradients,
    incomplete,
    observed,
    parts,
    product_of,
    standard,
)
from tests.oracle import cell

STAGES = ("joint", "unimodal")


def model(stage: str = "joint", kinds: list[str] = KINDS, seed: int = 0) -> TELBO:
    built = TELBO(parts(kinds, seed=seed), 2)
    built.stage = stage
    return built


def joint(built: TELBO, table: Table, given: list[str], row: int) -> Normal:
    """Eq. 4: the product of the prior and the experts of stage one."""
    return product_of([standard(), *(expert(built, table, name, row) for name in given)])


def unimodal(built: TELBO, table: Table, name: str, row: int) -> Normal:
    """The posterior of the encoder of stage two."""
    mean, log_var = built.unimodal[name](cell(table, name, row))[0].chunk(2)
    return mean, log_var.exp()


def naive(built: TELBO, table: Table, noise: Tensor, beta: float) -> Tensor:
    """Minus the mean ELBO of complete rows (stage one), or of Σ_i ELBO(x_i) with the new encoders (stage two)."""
    total = torch.zeros(()).double()
    for row in range(len(table)):
        own = observed(table, row, built.names)
        if built.stage == "unimodal":
            for name in own:
                q, eps = unimodal(built, table, name, row), noise[built.names.index(name), row]
                total = total + bound(built, table, row, q, [name], eps, beta)
        elif own == list(built.names):
            total = total + bound(built, table, row, joint(built, table, own, row), own, noise[0, row], beta)
    return -total / len(table)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("make", [complete, incomplete])
@pytest.mark.parametrize("seed", range(3))
def test_stage_objective_is_sum_of_elbos(stage: str, make, seed: int) -> None:
    for kinds in (KINDS, KINDS[:2]):
        built, table, beta = model(stage, kinds, seed), make(6, kinds), 0.4 * seed
        assert_naive(built, table, naive, beta)


def is_unimodal(name: str) -> bool:
    return name.startswith("unimodal.")


@pytest.mark.parametrize("make", [complete, incomplete])
def test_other_stage_has_no_gradient(make) -> None:
    built, table = model(), make(6)
    with Stages(built, epochs=1) as stages:
        for number, stage in enumerate(STAGES):
            stages.enter(number)
            assert built.stage == stage
            built(table).loss.backward()
            for name, parameter in built.named_parameters():
                trained = is_unimodal(name) == (stage == "unimodal")
                assert parameter.requires_grad == trained
                assert (parameter.grad is not None and bool(parameter.grad.any())) == trained, name
            own = {id(p) for p in built.stage_parameters(stage)}
            assert own == {id(p) for n, p in built.named_parameters() if is_unimodal(n) == (stage == "unimodal")}
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_stage_one_loss_ignores_unimodal_encoders() -> None:
    built, table = model(), complete(4)
    found = gradients(built, built(table).loss)
    assert all((gradient == 0).all() for name, gradient in found.items() if is_unimodal(name))


def test_stage_one_ignores_incomplete_rows() -> None:
    built, table = model(), complete(3)
    none_complete = Table(table.columns, {"label": torch.zeros(3, dtype=torch.bool)})
    assert built(none_complete).loss == 0


def test_rows_from_which_nothing_is_learned_are_refused() -> None:
    """Without a complete row, the decoders would stay random, and the loss of a JMVAE would be 0."""
    first = torch.arange(20) < 10
    table = Table({"a": torch.randn(20, 3), "b": torch.randn(20, 3)}, {"a": first, "b": ~first})
    for kind, what in ((TELBO, "TELBO learns nothing from these rows in its stage 'joint'"), (JMVAE, "JMVAE learns")):
        parts = {name: Modality(mlp(3, 4), mlp(2, 3), "gaussian") for name in "ab"}
        with pytest.raises(DataError, match=what):
            fit(kind(parts, 2), table, epochs=1, callbacks=[])


# -- Posteriors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_posterior_comes_from_new_encoder_or_product(stage: str) -> None:
    built, table = model(stage), complete(3)
    for name in KINDS:
        assert_posterior(built.posterior(table, given=[name]), [unimodal(built, table, name, row) for row in range(3)])
    for given in (KINDS, ["image", "signal"]):
        assert_posterior(built.posterior(table, given=given), [joint(built, table, given, row) for row in range(3)])
    assert torch.equal(built.posterior(table, given=[]).variance, torch.ones(3, 2).double())


def test_each_row_uses_posterior_of_its_observed_modalities() -> None:
    built, table = model(), incomplete(8)
    has = [observed(table, row, KINDS) for row in range(8)]
    expected = [
        unimodal(built, table, own[0], row) if len(own) == 1 else joint(built, table, own, row)
        for row, own in enumerate(has)
    ]
    assert_posterior(built.posterior(table), expected)


def test_new_encoders_have_same_shape_and_other_weights() -> None:
    built = model()
    for name, part in built.modalities.items():
        pairs = zip(part.encoder.parameters(), built.unimodal[name].parameters(), strict=True)
        for old, new in pairs:
            assert old.shape == new.shape
            assert not torch.equal(old, new)


# -- Training ----------------------------------------------------------------------------------------------------------


def test_stage_two_keeps_joint_model_and_batch_statistics() -> None:
    made = parts()
    made["signal"].decoder = nn.Sequential(nn.BatchNorm1d(2), made["signal"].decoder).double()
    made["signal"].encoder = nn.Sequential(nn.BatchNorm1d(4), made["signal"].encoder).double()
    built, seen = TELBO(made, 2), []

    class Watch(Callback):
        def on_epoch(self, values: dict[str, float]) -> None:
            seen.append({name: value.clone() for name, value in built.state_dict().items()})

    fit(built, complete(12), epochs=2, batch_size=4, callbacks=[Watch()])
    first, last = seen[1], seen[3]
    for name in first:
        assert torch.equal(first[name], last[name]) == (not is_unimodal(name)), name


def test_single_modality_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least two modalities"):
        model(kinds=["image"])


def test_new_encoders_see_same_view() -> None:
    seen: list[Tensor] = []

    class Records(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(input.detach())
            return super().forward(input)

    counts = Modality(Records(1, 4), nn.Linear(2, 1), "poisson")
    table = {"n": torch.full((2, 1), 1000.0)}
    model = TELBO({"n": counts, "m": Modality(nn.Linear(1, 4), nn.Linear(2, 1), "poisson")}, 2)
    model.posterior(table)
    torch.testing.assert_close(seen[-1], torch.full((2, 1), 1001.0).log())


@pytest.mark.parametrize("of", [TELBO, JMVAE])
def test_models_with_further_encoders_learn_incomplete_columns(of: type[TELBO | JMVAE]) -> None:
    x = Modality(nn.Linear(3, 4), nn.Linear(2, 3), "gaussian")
    model = of({"c": Columns.of(["k", "r"], latent_dim=2), "x": x}, latent_dim=2)
    values, present = torch.randn(32, 2), torch.rand(32, 2) < 0.8
    present[:, 0] = True
    fit(model, Table({"c": values, "x": torch.randn(32, 3)}, {"c": present}), epochs=1, callbacks=[])
    assert model.posterior({"c": values}).mean.isfinite().all()
