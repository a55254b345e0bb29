"""Banks give the same as running the modalities one by one: values, gradients and running statistics."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.modality import bank
from mvae.modality.augment import Noise
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.mmvae import MMVAE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.networks.mlp import mlp
from tests.models.common import assert_same_gradients, gradients

LATENT = 3
NAMES = ("bald", "hat", "male", "smiling", "wavy")


def perceptrons(features: int = 1) -> dict[str, Modality]:
    """An image outside the bank, and five perceptrons with batch norm that form one."""
    torch.manual_seed(0)
    image = Modality(mlp(4, 2 * LATENT, [6]), mlp(LATENT, 4, [6]), likelihoods.Bernoulli())
    made = {"image": image}
    for i, name in enumerate(NAMES):
        networks = mlp(features, 2 * LATENT, (5, 5), batch_norm=True), mlp(LATENT, features, (5, 5), batch_norm=True)
        made[name] = Modality(*networks, likelihoods.Bernoulli(), weight=1.0 + i)
    for modality in made.values():  # running statistics that are not the initial ones
        for norm in modality.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.running_mean, norm.running_var = torch.randn(5), 0.5 + torch.rand(5)
    return {name: modality.double() for name, modality in made.items()}


def model_of(kind: str, features: int = 1) -> MultimodalVAE:
    match kind:
        case "mvae":
            return MVAE(perceptrons(features), LATENT, random_subsets=1, cross_from=["image"])
        case "mvae_q":
            return MVAEQ(perceptrons(features), LATENT, random_subsets=1)
        case "bivcca":
            return BiVCCA(perceptrons(features), LATENT)
        case _:
            return MMVAE(perceptrons(features), LATENT, samples=2)


def rows_of(present: Tensor, values: str = "yes or no", features: int = 1) -> Table:
    """Rows with this presence ``rows 6``; NaN in the missing cells."""
    rows = len(present)
    columns = {"image": torch.rand(rows, 4).double()}
    for i, name in enumerate(NAMES, start=1):
        value = torch.rand(rows, features).double()
        columns[name] = (value < 0.4).double() if values == "yes or no" else value
        columns[name][~present[:, i]] = math.nan
    return Table(columns, {name: present[:, i] for i, name in enumerate(columns)})


def random_presence(rows: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    present = torch.rand(rows, 6) < torch.rand(6)
    present[:, 0] |= ~present.any(1)
    return present


def only_one_row_smiles() -> Tensor:
    present = torch.ones(7, 6, dtype=torch.bool)
    present[:, 4] = torch.arange(7) == 3
    return present


def nobody_smiles() -> Tensor:
    present = torch.ones(7, 6, dtype=torch.bool)
    present[:, 4] = False
    return present


def assert_same_as_a_loop(model: MultimodalVAE, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that the model without banks gives the same for the same batch, noise and random subsets."""
    loop = copy.deepcopy(model)
    noise = torch.randn(200, len(table), LATENT).double()

    def result(of: MultimodalVAE):
        terms = of.terms(table.presence(of.names), torch.Generator().manual_seed(1))
        return of(table, terms, noise=noise[: len(terms.names)], beta=0.7)

    fast = result(model)
    with monkeypatch.context() as patch:
        patch.setattr(bank, "banks_of_encoders", lambda *_: [])
        patch.setattr(bank, "banks_of_decoders", lambda *_: [])
        slow = result(loop)
    assert fast.loss.isfinite()
    for found, expected in ((fast.loss, slow.loss), (fast.log_prob, slow.log_prob), (fast.kl, slow.kl)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(model, fast.loss), gradients(loop, slow.loss))
    for (name, found), expected in zip(model.named_buffers(), loop.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=name)


@pytest.fixture(params=["all at once", "two at a time", "one at a time"], autouse=True)
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the CPU cache only decides how many networks run in one call."""
    if request.param != "all at once":
        monkeypatch.setattr(bank, "CACHED", 2 * 5 * 9 if request.param == "two at a time" else 1)


@pytest.mark.parametrize("kind", ["mvae", "mvae_q", "bivcca", "mmvae"])
@pytest.mark.parametrize("seed", range(2))
def test_a_bank_equals_a_loop_for_random_presence(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_as_a_loop(model_of(kind), rows_of(random_presence(9, seed)), monkeypatch)


@pytest.mark.parametrize("present", [torch.ones(8, 6, dtype=torch.bool), only_one_row_smiles(), nobody_smiles()])
@pytest.mark.parametrize("values", ["yes or no", "anything"])
@pytest.mark.parametrize("training", [True, False])
def test_a_bank_equals_a_loop_for_complete_rows_and_rare_modalities(
    present: Tensor, values: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_as_a_loop(model_of("mvae").train(training), rows_of(present, values), monkeypatch)


def test_a_bank_equals_a_loop_for_several_features(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows_of(random_presence(9, 5), "anything", features=2)
    assert_same_as_a_loop(model_of("mvae", features=2), table, monkeypatch)


def test_a_row_of_weight_n_counts_as_n_rows() -> None:
    """Compared with PyTorch's layers on the repeated rows; rows of weight zero do not count."""
    torch.manual_seed(0)
    networks = [mlp(2, 3, (4, 4), batch_norm=True).double() for _ in range(3)]
    loop = copy.deepcopy(networks)
    x, weight = torch.randn(3, 5, 2).double(), torch.tensor([[1, 2, 0, 3, 1], [1, 1, 1, 1, 1], [0, 0, 4, 0, 1]])
    found = bank.run_bank(networks, x, weight.double())
    for own, network, times, output in zip(x, loop, weight, found, strict=True):
        expected = network(own.repeat_interleave(times, 0))
        torch.testing.assert_close(output.repeat_interleave(times, 0), expected)
    for one, other in zip(networks, loop, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name])


def test_binary_values_are_encoded_only_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = bank.run_bank

    def watched(networks, x: Tensor, weight: Tensor) -> Tensor:
        seen.append(x.shape[1])
        return run(networks, x, weight)

    monkeypatch.setattr(bank, "run_bank", watched)
    model, present = model_of("mvae"), torch.ones(50, 6, dtype=torch.bool)
    for values, rows in (("yes or no", 2), ("anything", 50)):
        model.posterior(rows_of(present, values))
        assert seen.pop() == rows


def grouped(modalities: dict[str, Modality]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    x = {name: torch.zeros(2, 1) for name in modalities}
    return bank.banks_of_encoders(modalities, x), bank.banks_of_decoders(modalities, x)


def test_only_networks_of_one_shape_and_known_layers_run_together() -> None:
    class Own(Modality):
        pass

    def made(
        encoder: nn.Module | None = None, likelihood: type = likelihoods.Bernoulli, kind: type = Modality
    ) -> Modality:
        return kind(encoder or mlp(1, 6, (5, 5), batch_norm=True), mlp(3, 1, (5, 5), batch_norm=True), likelihood())

    both = [("a", "b")]
    assert grouped({"a": made(), "b": made()}) == (both, both)
    assert grouped({"a": made(), "b": made(mlp(1, 6, (5, 5)))}) == ([], both)  # no batch norm
    assert grouped({"a": made(), "b": made(mlp(1, 6, (7, 7), batch_norm=True))}) == ([], both)  # wider
    assert grouped({"a": made(), "b": made(kind=Own)}) == ([], [])  # may do anything
    assert grouped({"a": made(), "b": made(likelihood=likelihoods.Gaussian)}) == (both, [])
    dropout = [nn.Sequential(nn.Linear(1, 6), nn.Dropout()) for _ in range(2)]
    assert grouped({"a": made(dropout[0]), "b": made(dropout[1])}) == ([], both)
    frozen = made()
    frozen.encoder[2].eval()  # pyright: ignore[reportIndexIssue]
    assert grouped({"a": made(), "b": frozen}) == ([], both)
    hooked = made()
    hooked.encoder[1].register_forward_hook(lambda *_: None)  # pyright: ignore[reportIndexIssue]
    assert grouped({"a": made(), "b": hooked}) == ([], both)
    blurred = made()
    blurred.augment = (Noise(0.5),)
    assert grouped({"a": made(), "b": blurred}) == ([], both)
    assert grouped({"a": made().eval(), "b": blurred.eval()}) == (both, both)
    wide = {"a": torch.zeros(2, 1), "b": torch.zeros(2, 1, 1)}  # the same networks, events of different shapes
    assert bank.banks_of_decoders({"a": made(), "b": made()}, wide) == []
