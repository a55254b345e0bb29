"""The objective with unusual networks: views as outputs, half precision, autocast, extreme outputs."""

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from mvae.data.table import Table
from mvae.models.terms import mvae_terms
from tests.every_kind import KINDS, assert_same, column, gradients, masked, model_of, noise_for
from tests.oracle import mvae_plan, naive_loss


class Halves(nn.Module):
    """An encoder that returns views of one tensor; writing into one of them in place would break its backward."""

    def __init__(self, inputs: int, latent: int):
        super().__init__()
        self.layer = nn.Linear(inputs, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.layer(x).chunk(2, -1)
        return mean, log_var


@pytest.mark.parametrize("complete", [True, False])
def test_encoder_may_return_chunk_views(complete: bool) -> None:
    model, rows = model_of(["image", "signal"]), 6
    model.modalities["signal"].encoder = Halves(4, 2).double()
    columns = {kind: column(kind, rows) for kind in model.names}
    batch = Table(columns) if complete else masked(columns)
    terms = model.terms(batch.presence(model.names))
    noise = noise_for(model, terms, rows)
    fast = model(batch, terms, noise=noise).loss
    assert_same(model, fast, naive_loss(model, batch, mvae_plan(model, batch, terms), noise))


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_have_float32_loss(dtype: torch.dtype, complete: bool) -> None:
    model, rows = model_of(["image", "label"]), 6
    columns = {kind: column(kind, rows) for kind in model.names}
    batch = Table(columns) if complete else Table(columns, {"label": torch.arange(rows) < 3})
    terms = model.terms(batch.presence(model.names))
    noise = noise_for(model, terms, rows)
    exact = model(batch, terms, noise=noise).loss
    model.to(dtype)
    result = model(batch, terms, noise=noise.float())
    assert result.loss.dtype == result.kl.dtype == torch.float32
    torch.testing.assert_close(result.loss.double(), exact, rtol=0.02, atol=0)
    result.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model(batch)  # with its own noise
    assert model.generate(batch.take([0]), n=2)["image"].shape == (2, 1, 6)


@pytest.mark.parametrize("complete", [True, False])
def test_autocast_changes_loss_only_by_rounding(complete: bool) -> None:
    model, rows = model_of(["image", "label"]).float(), 6
    columns = {kind: column(kind, rows) for kind in model.names}
    batch = Table(columns) if complete else Table(columns, {"label": torch.arange(rows) < 3})
    terms = model.terms(batch.presence(model.names))
    noise = noise_for(model, terms, rows).float()
    exact = model(batch, terms, noise=noise).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = model(batch, terms, noise=noise)
    assert result.loss.dtype == result.kl.dtype == torch.float32
    torch.testing.assert_close(result.loss, exact, rtol=0.02, atol=0)


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_log_variance_gives_finite_loss_and_gradients(extreme: float) -> None:
    model = model_of(["image", "signal"]).float()
    layer = cast("nn.Linear", cast("nn.Sequential", model.modalities["signal"].encoder)[-1])
    with torch.no_grad():
        layer.bias[2:] = extreme
    result = model(Table({kind: column(kind, 5) for kind in model.names}))
    assert result.loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(model, result.loss).values())


def test_same_generator_gives_same_loss() -> None:
    model = model_of(KINDS, k=2)
    batch = masked({kind: column(kind, 6) for kind in KINDS})
    one, same, other = (model(batch, generator=torch.Generator().manual_seed(s)).loss for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_tensor_beta_equals_float_beta() -> None:
    model = model_of(["signal"])
    batch, noise = Table({"signal": column("signal", 3)}), torch.randn(1, 3, 2).double()
    terms = mvae_terms(batch.presence(model.names), model.names)
    one, other = (model(batch, terms, beta=beta, noise=noise).loss for beta in (0.25, torch.tensor(0.25)))
    assert torch.equal(one, other)
