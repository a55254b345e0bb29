"""The start of an encoder of columns: the posterior of a linear-Gaussian model, against its joint distribution."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mvae
from mvae.data.fields import Field, fields_of
from mvae.errors import SettingsError
from mvae.likelihoods.real import Gaussian
from mvae.modality.augment import Hide
from mvae.modality.linear_posterior import linear_posterior
from mvae.networks.columns import ColumnFeatures
from mvae.networks.mlp import mlp
from mvae.runs.build import build
from mvae.runs.config import Config


def conditional(
    x: np.ndarray, slope: np.ndarray, precision: np.ndarray, here: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of z given the observed x, from the joint normal distribution of both."""
    w, noise = slope.T[here], np.diag(1 / precision[here])
    gain = w.T @ np.linalg.inv(w @ w.T + noise)
    return gain @ x[here], np.eye(len(slope)) - gain @ w


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
def test_it_is_the_exact_posterior_of_any_subset(seed: int, latents: int, fields: int) -> None:
    g = np.random.default_rng(seed)
    x, slope = g.normal(size=(4, fields)), g.normal(size=(latents, fields))
    precision, here = np.exp(g.normal(size=fields)), g.random((4, fields)) < 0.6
    given_x = torch.from_numpy(np.where(here, x, np.nan))
    mean, precisions = linear_posterior(given_x, torch.from_numpy(slope), torch.from_numpy(precision))
    for row in range(4):
        expected, covariance = conditional(x[row], slope, precision, here[row])
        np.testing.assert_allclose(mean[row], expected, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(precisions[row], np.diag(np.linalg.inv(covariance)), rtol=1e-8)


def columns(decoder: nn.Module, fields: Sequence[Field | str], latents: int) -> mvae.Columns:
    """A modality with a linear start whose encoder adds nothing to it."""
    encoder = mlp(ColumnFeatures(fields_of(fields)).size, 2 * latents)
    for parameter in encoder.parameters():
        nn.init.zeros_(parameter)
    return mvae.Columns(fields, encoder, decoder, augment=[], linear_start=True)


def test_with_a_linear_decoder_the_encoder_gives_the_exact_posterior() -> None:
    decoder = nn.Linear(3, 4)
    labs = columns(decoder, ["a", "b", "c", "d"], 3)
    family = labs.likelihood.families[0]
    assert isinstance(family, Gaussian)
    assert family.log_s is not None
    with torch.no_grad():
        family.log_s.copy_(torch.tensor([-1.0, 0.0, -0.5, -2.0]))
        scale = labs.likelihood.spread(torch.zeros(4)).double().numpy()
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        x[torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) < 0.4] = torch.nan
        mean, log_var = labs.expert_parameters(x)
    weight, bias = (p.detach().double().numpy() for p in (decoder.weight, decoder.bias))
    for row in range(5):
        away = x[row].double().numpy() - bias
        expected, covariance = conditional(away, weight.T, scale**-2, ~np.isnan(away))
        np.testing.assert_allclose(mean[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_var[row].exp(), 1 / np.diag(np.linalg.inv(covariance)), rtol=1e-4)


def test_only_numbers_with_a_scale_count_and_outliers_are_clamped() -> None:
    fields = [Field("a"), Field("heavy", family="student"), Field("sex", "binary"), Field("visits", "count")]
    modality = columns(mlp(2, 4, [8]), fields, 2)
    x = torch.tensor([[0.3, 1.0, 1.0, 2.0], [0.3, -2.0, 0.0, 5.0], [1e30, 0.0, 0.0, 0.0], [10.0, 0.0, 0.0, 0.0]])
    mean, log_var = modality.expert_parameters(x)
    assert torch.equal(mean[0], mean[1])
    assert torch.equal(log_var[0], log_var[1])
    assert torch.equal(mean[2], mean[3])


def test_values_hidden_in_training_do_not_enter() -> None:
    modality = columns(mlp(2, 3, [8]), ["a", "b", "c"], 2)
    modality.augment = (Hide(0.999999),)
    mean, log_var = modality.train().expert_parameters(torch.randn(6, 3))
    assert torch.equal(mean, torch.zeros(6, 2))
    assert torch.equal(log_var, torch.zeros(6, 2))


@pytest.mark.parametrize(
    "decoder",
    [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), nn.Sequential(nn.Dropout(), nn.Linear(2, 3))],
    ids=["batch norm", "dropout"],
)
def test_decoders_that_differ_in_training_are_refused(decoder: nn.Module) -> None:
    with pytest.raises(SettingsError, match="linear_start needs a decoder of z alone"):
        columns(decoder, ["a", "b", "c"], 2)


def test_other_kinds_are_refused() -> None:
    parts = {"x": {"kind": "real", "shape": [3], "linear_start": True}}
    with pytest.raises(SettingsError, match="x: linear_start is for the kind columns, not real"):
        build(Config.from_dict({"data": {"source": "x.npz"}, "modalities": parts}))
