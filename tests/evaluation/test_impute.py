"""Imputation against the closed form of a linear-Gaussian model, with a proposal that is not its posterior."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mvae
from mvae.errors import QueryError
from mvae.evaluation.impute import impute, imputed_parts
from mvae.models.prior import MixturePrior
from mvae.networks.mlp import LabelEncoder, mlp
from tests.unchecked import unchecked

ROWS = 300
W = torch.tensor([[1.0, 0.3], [0.8, -0.5], [-0.6, 0.9], [0.2, 1.1]]).double()
SD = torch.tensor([0.5, 0.7, 0.6, 0.8]).double()


class Wide(nn.Module):
    """A proposal that covers the posterior but is wider and off-centre."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(W.clone())

    def forward(self, features: Tensor) -> Tensor:
        x, here = features.chunk(2, -1)
        precision = 0.7 * (here / SD.square()) @ self.w.square()
        mean = (here * x / SD.square()) @ self.w / (1 + precision)
        return torch.cat([mean, -precision.clamp(min=1e-6).log()], -1)


def model() -> mvae.MVAE:
    decoder = nn.Linear(2, 4, bias=False).double()
    decoder.weight.data = W.clone()
    own = mvae.Columns(list("abcd"), Wide(), decoder)
    own.likelihood.families[0].log_scale.data = SD.log()  # pyright: ignore[reportAttributeAccessIssue]
    return mvae.MVAE({"x": own}, 2).double().eval()


def table(fill: float = float("nan")) -> tuple[mvae.Table, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    z, noise = torch.randn(ROWS, 2, generator=g).double(), torch.randn(ROWS, 4, generator=g).double()
    x, observed = z @ W.T + SD * noise, torch.rand(ROWS, 4, generator=g) < 0.6
    observed[:, 0] |= ~observed.any(1)
    return mvae.Table({"x": torch.where(observed, x, fill)}, {"x": observed}), x, observed


def test_means_draws_and_intervals_match_the_closed_form() -> None:
    data, x, observed = table()
    found = impute(model(), data, draws=400, samples=2000, interval=0.8)
    assert found.draws["x"].untyped_storage().nbytes() == 8 * found.draws["x"].numel()  # no other draws are kept
    covered, standard, errors = [], [], []
    for row in range(ROWS):
        here, gone = observed[row], ~observed[row]
        covariance = W @ W.T + torch.diag(SD.square())
        gain = covariance[gone][:, here] @ covariance[here][:, here].inverse()
        mean = gain @ x[row, here]
        sd = (covariance[gone][:, gone] - gain @ covariance[here][:, gone]).diag().sqrt()
        filled = torch.as_tensor(found.table["x"])[row]
        assert torch.equal(filled[here], x[row, here])
        assert torch.equal(found.draws["x"][:, row, here], x[row, here].expand(400, -1))
        errors += (filled[gone] - mean).abs().tolist()
        drawn = found.draws["x"][:, row, gone]
        standard += ((drawn - mean) / sd).flatten().tolist()
        covered += ((x[row] >= found.low["x"][row]) & (x[row] <= found.high["x"][row]))[gone].tolist()
        assert torch.equal(found.low["x"][row, here], x[row, here])
    assert sum(errors) / len(errors) < 0.03  # standard deviations are 0.5 to 1; 2,000 samples
    drawn = torch.tensor(standard)
    assert abs(drawn.mean().item()) < 0.03
    assert drawn.std().item() == pytest.approx(1, abs=0.04)
    assert sum(covered) / len(covered) == pytest.approx(0.8, abs=0.05)


def test_parts_equal_the_whole_and_values_in_missing_cells_are_ignored() -> None:
    found, other = (impute(model(), table(fill)[0], draws=3, samples=30) for fill in (0.0, 1e30))
    assert torch.equal(torch.as_tensor(found.table["x"]), torch.as_tensor(other.table["x"]))
    parts = list(imputed_parts(model(), table()[0], draws=3, samples=30))
    assert torch.equal(torch.cat([part.draws["x"] for part in parts], 1), found.draws["x"])


def test_classes_are_drawn_with_their_probabilities() -> None:
    torch.manual_seed(0)
    fields = [{"name": "a"}, {"name": "kind", "kind": "categorical", "classes": 3}, {"name": "yes", "kind": "binary"}]
    net = mvae.MVAE({"x": mvae.Columns.of(fields, 2, [8])}, 2).eval()
    x = torch.tensor([[0.3, 0.0, 0.0], [-1.0, 0.0, 1.0]])
    observed = torch.tensor([[True, False, False], [True, False, True]])
    found = impute(net, mvae.Table({"x": x}, {"x": observed}), draws=4000, samples=4000)
    p = found.probabilities["x"]
    assert {name: tuple(v.shape) for name, v in p.items()} == {"kind": (2, 3), "yes": (2, 2)}
    share = torch.stack([(found.draws["x"][..., 1] == k).double().mean(0) for k in range(3)], 1)
    torch.testing.assert_close(share, p["kind"].double(), atol=0.03, rtol=0)
    assert torch.equal(torch.as_tensor(found.table["x"])[:, 1], p["kind"].argmax(1).double())


def test_whole_modalities_are_filled_in() -> None:
    torch.manual_seed(0)
    label = mvae.Modality(nn.Embedding(3, 4), nn.Linear(2, 3), "categorical")
    parts = {"x": mvae.Columns.of(["a", "b"], 2, [8]), "label": label}
    net = mvae.MVAE(parts, 2).eval()
    has = torch.tensor([True, False, True])
    data = mvae.Table({"x": torch.ones(3, 2), "label": torch.tensor([2, -7, 1])}, {"label": has})
    found = impute(net, data)
    assert torch.as_tensor(found.table["label"])[has].tolist() == [2, 1]
    assert found.table["label"].dtype == torch.int64
    assert found.table.complete
    only = impute(net, {"x": torch.ones(2, 2)}, draws=2)
    assert only.draws["label"].shape == (2, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 0},
        {"draws": 500},
        {"interval": 1.0},
        {"interval": "0.9"},
        {"samples": 1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_numbers_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with unchecked(), pytest.raises(QueryError):
        impute(model(), table()[0], **wrong)


def test_a_seed_may_have_63_bits() -> None:
    assert torch.as_tensor(impute(model(), table()[0][:3], samples=40, seed=2**63 - 1).table["x"]).isfinite().all()


def test_observed_values_are_kept_exactly() -> None:
    own = mvae.MVAE({"d": mvae.Modality(mlp(1, 4), mlp(2, 1), mvae.likelihoods.Gaussian())}, latent_dim=2)
    exact = torch.tensor([[1.7e9 + 1], [0.1]], dtype=torch.float64)
    assert (torch.as_tensor(impute(own, {"d": exact}).table["d"]) == exact).all()
    counts = mvae.MVAE({"n": mvae.Modality(mlp(1, 4), mlp(2, 1), mvae.likelihoods.Poisson())}, latent_dim=2)
    found = impute(counts, {"n": torch.tensor([[16_777_217], [3]])})
    assert torch.as_tensor(found.table["n"]).tolist() == [[16_777_217], [3]]


def test_a_missing_ordinal_class_is_filled_in_with_the_median() -> None:
    stage = mvae.Modality(LabelEncoder(4, 4, 8), mlp(2, 1), mvae.likelihoods.Ordinal(4))
    x = mvae.Modality(mlp(3, 4), mlp(2, 3), mvae.likelihoods.Gaussian())
    own = mvae.MVAE({"stage": stage, "x": x}, latent_dim=2)
    share = torch.tensor([0.52, 1e-4, 0.46, 0.02])
    with torch.no_grad():
        for parameter in stage.decoder.parameters():
            parameter.zero_()
        stage.likelihood.start_from(share * 1e6)  # pyright: ignore[reportCallIssue]
    found = impute(own, {"x": torch.zeros(3, 3)})
    assert torch.as_tensor(found.table["stage"]).flatten().tolist() == [0, 0, 0]  # the mean would be 1
    torch.testing.assert_close(found.probabilities["stage"][""], share.expand(3, 4), rtol=0.01, atol=1e-3)


def test_imputation_uses_the_fitted_prior() -> None:
    identity, constant = nn.Linear(2, 2, bias=False), nn.Linear(2, 1)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(2))
        constant.weight.zero_()
    x = mvae.Modality(mlp(2, 4), identity, mvae.likelihoods.Gaussian())
    own = mvae.MVAE({"x": x, "y": mvae.Modality(mlp(1, 4), constant, mvae.likelihoods.Gaussian())}, latent_dim=2)
    for centre in (0.0, 0.7):
        own.prior = MixturePrior(torch.ones(1), torch.full((1, 2), centre), torch.eye(2)[None])
        found = torch.as_tensor(impute(own, {"y": torch.zeros(1, 1)}, samples=4_000, draws=1).table["x"])
        torch.testing.assert_close(found, torch.full((1, 2), centre), atol=0.08, rtol=0)
