"""One modality: shapes, alignment of samples, rows and context, and errors that give the reason."""

import math

import pytest
import torch
from torch import Tensor, distributions, nn

from mvae import likelihoods
from mvae.errors import DataError, SettingsError
from mvae.modality.augment import Noise, Power, Shift
from mvae.modality.base import Modality, require_network, run
from mvae.modality.modes import evaluating
from mvae.networks.mlp import ImageDecoder, mlp

LATENT = 3


def image(decoder: nn.Module | None = None) -> Modality:
    """Images of 2×4 pixels with a flat decoder."""
    return Modality(mlp(8, 2 * LATENT, [5]), decoder or mlp(LATENT, 8, [5]), likelihoods.Bernoulli())


def label(classes: int = 4) -> Modality:
    return Modality(nn.Embedding(classes, 2 * LATENT), nn.Linear(LATENT, classes), likelihoods.Categorical())


# -- Encoding ----------------------------------------------------------------------------------------------------


def test_the_encoder_output_is_mean_then_log_variance() -> None:
    part, x = image(), torch.rand(5, 2, 4)
    output = part.encoder(x)
    expert = part.encode(x)
    torch.testing.assert_close(expert.mean, output[:, :LATENT])
    torch.testing.assert_close(expert.variance.log(), output[:, LATENT:])


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, -x


def test_an_encoder_may_give_mean_and_log_variance_as_a_pair() -> None:
    x = torch.randn(5, LATENT)
    expert = Modality(Pair(), nn.Identity(), likelihoods.Gaussian()).encode(x)
    torch.testing.assert_close(expert.mean, x)
    torch.testing.assert_close(expert.variance.log(), -x)


def test_batches_of_any_length_are_encoded() -> None:
    part, x = image(), torch.rand(9, 2, 4)
    whole = part.encode(x)
    for rows in (slice(0, 1), slice(1, 9), slice(0, 0)):
        torch.testing.assert_close(part.encode(x[rows]).mean, whole.mean[rows])


def test_batches_are_cast_to_the_dtype_of_the_networks() -> None:
    part = image().double()
    assert part.dtype == torch.float64
    assert part.prepare(torch.zeros(2, 2, 4, dtype=torch.uint8)).dtype == torch.float64
    assert part.encode(part.prepare(torch.zeros(2, 2, 4))).mean.dtype == torch.float64
    assert Modality(Pair(), nn.Identity(), likelihoods.Gaussian()).dtype == torch.float32  # the default


# -- Decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (6,), (6, 2)])
@pytest.mark.parametrize("decoder", [mlp(LATENT, 8, [5]), ImageDecoder(LATENT, (2, 4), [5])])
def test_log_prob_scores_each_row_under_each_of_its_own_samples(decoder: nn.Module, lead: tuple[int, ...]) -> None:
    part, x = image(decoder), (torch.rand(5, 2, 4) < 0.5).float()
    z = torch.randn(*lead, 5, LATENT)
    found = part.log_prob(x, z)
    assert found.shape == (*lead, 5)
    flat_z, flat_found = z.reshape(-1, 5, LATENT), found.reshape(-1, 5)
    for s in range(len(flat_z)):
        for row in range(5):
            logits = decoder(flat_z[s, row][None]).reshape(2, 4)
            expected = distributions.Bernoulli(logits=logits).log_prob(x[row]).sum()
            torch.testing.assert_close(flat_found[s, row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lead", [(5,), (6, 5), (6, 2, 5)])
def test_generate_gives_a_sample_or_the_mean_for_every_z(lead: tuple[int, ...]) -> None:
    z = torch.randn(*lead, LATENT)
    flat, shaped, classes = image(), image(ImageDecoder(LATENT, (2, 4), [5])), label()
    assert flat.generate(z).shape == (*lead, 8)
    assert shaped.generate(z).shape == (*lead, 2, 4)
    assert classes.generate(z).shape == lead
    assert classes.generate(z, mean=True).shape == (*lead, 4)
    torch.testing.assert_close(
        shaped.generate(z, mean=True), shaped.decoder(z.flatten(0, -2)).sigmoid().view(*lead, 2, 4)
    )
    assert set(flat.generate(z).unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(classes.generate(z, mean=True).sum(-1), torch.ones(lead))


def test_a_sample_depends_on_the_generator_only() -> None:
    part, z = image(), torch.randn(50, LATENT)
    one, same, other = (part.generate(z, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class Conditioned(nn.Module):
    """A decoder that returns the first latent and the context, which shows how they were paired."""

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        return torch.cat([z[:, :1], context], -1)


@pytest.mark.parametrize("lead", [(), (6,), (6, 2)])
def test_context_reaches_the_decoder_with_every_sample_of_its_own_row(lead: tuple[int, ...]) -> None:
    part = Modality(nn.Identity(), Conditioned(), likelihoods.Gaussian())
    z, context = torch.randn(*lead, 5, LATENT), torch.randn(5, 2)
    expected = torch.cat([z[..., :1], context.expand(*lead, 5, 2)], -1)
    torch.testing.assert_close(part.generate(z, context, mean=True), expected)
    x = torch.randn(5, 3)
    log_prob = distributions.Normal(expected, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(part.log_prob(x, z, context), log_prob)


def test_a_half_precision_decoder_is_scored_in_float32() -> None:
    part, z = image(), torch.randn(4, 5, LATENT)
    x = torch.rand(5, 2, 4)
    exact = part.log_prob(x, z)
    part.to(torch.bfloat16)
    assert part.log_prob(x, z).dtype == torch.float32
    torch.testing.assert_close(part.log_prob(x, z), exact, rtol=0.02, atol=0.02)


# -- Augmentations and errors ------------------------------------------------------------------------------------


def test_input_noise_is_added_only_in_training_with_its_standard_deviation() -> None:
    seen: list[Tensor] = []

    def spy(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])

    part = Modality(mlp(8, 4), mlp(LATENT, 8), likelihoods.Bernoulli(), augment=Noise(0.3))
    part.encoder.register_forward_pre_hook(spy)
    x = torch.rand(5000, 8)
    torch.manual_seed(0)
    part.train().encode(x)
    part.eval().encode(x)
    noise = seen[0] - x
    assert noise.mean().abs() < 0.01  # 40,000 values: five standard errors are 0.0075
    assert abs(float(noise.std()) - 0.3) < 0.006
    assert torch.equal(seen[1], x)


def test_classes_are_not_augmented() -> None:
    part = Modality(
        nn.Embedding(4, 4), mlp(LATENT, 4), likelihoods.Categorical(), augment=[Noise(0.3), Shift(1)]
    ).train()
    x = torch.tensor([3, 0])
    assert torch.equal(part.encode(x).mean, part.encode(x).mean)


def test_images_are_shifted_independently_and_only_in_training() -> None:
    seen: list[Tensor] = []

    def spy(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])

    encoder = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    part = Modality(encoder, mlp(LATENT, 60), likelihoods.Bernoulli(), augment={"name": "shift", "pixels": 1}).train()
    part.encoder.register_forward_pre_hook(spy)
    x = torch.rand(2, 2, 5, 6) + 0.1
    framed = nn.functional.pad(x, (1, 1, 1, 1))
    windows = {(i, j): framed[..., i : i + 5, j : j + 6] for i in range(3) for j in range(3)}
    torch.manual_seed(0)
    for _ in range(1_000):  # a pair of the 81 shifts is missed with probability below 81 (80/81)^1000 < 4e-4
        part.encode(x)
    met = [
        tuple(place for row in (0, 1) for place, window in windows.items() if torch.equal(image[row], window[row]))
        for image in seen
    ]
    assert set(met) == {(first, second) for first in windows for second in windows}
    part.eval().encode(x)
    assert torch.equal(seen[-1], x)


def test_a_power_view_applies_only_to_the_encoder() -> None:
    plain = Modality(mlp(8, 4), mlp(LATENT, 8), likelihoods.Gaussian())
    part = Modality(plain.encoder, plain.decoder, plain.likelihood, view=Power(0.5))
    x, z = torch.randn(3, 8), torch.randn(3, LATENT)
    for modality in (part.train(), part.eval()):
        assert torch.equal(modality.encode(x).mean, plain.encode(x.sign() * x.abs().sqrt()).mean)
        assert torch.equal(modality.log_prob(x, z), plain.log_prob(x, z))
    label = Modality(nn.Embedding(4, 4), mlp(LATENT, 4), likelihoods.Categorical(), view=Power(0.5))
    label.encode(torch.tensor([3, 0]))  # no power is taken of classes


def test_augmentations_follow_the_view_in_order() -> None:
    seen: list[Tensor] = []

    def own(x: Tensor, generator: torch.Generator | None) -> Tensor:
        seen.append(x)
        return x + torch.rand(len(x), 1, generator=generator)

    part = Modality(
        mlp(8, 4), mlp(LATENT, 8), likelihoods.Gaussian(), augment=[Noise(0.5), own], view=Power(2.0)
    ).train()
    part.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(3, 8)
    part.generator = torch.Generator().manual_seed(3)
    part.encode(x)
    g = torch.Generator().manual_seed(3)
    noisy = x.abs() * x + 0.5 * torch.empty(3, 8).normal_(generator=g)
    torch.testing.assert_close(seen[0], noisy)
    torch.testing.assert_close(seen[1], noisy + torch.rand(3, 1, generator=g))


def test_shifting_a_non_picture_is_refused() -> None:
    part = Modality(mlp(8, 4), mlp(LATENT, 8), likelihoods.Bernoulli(), augment=Shift(1)).train()
    with pytest.raises(DataError, match=r"only pictures can be moved: rows of shape \(8,\)"):
        part.encode(torch.rand(3, 8))


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_that_is_negative_or_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(SettingsError, match="finite number ≥ 0"):
        Modality(nn.Identity(), nn.Identity(), likelihoods.Gaussian(), weight)


def test_a_decoder_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"decoder gives 7 values per row .* but the data has 8 \(shape \(2, 4\)\)"):
        image(mlp(LATENT, 7, [5])).log_prob(torch.zeros(5, 2, 4), torch.zeros(5, LATENT))


def test_check_reports_invalid_rows() -> None:
    x = torch.rand(5, 2, 4)
    x[1, 0, 0], x[3, 1, 3] = 1.5, math.nan
    bad, possible = image().check(x, LATENT)
    assert bad.tolist() == [False, True, False, True, False]
    assert possible == "values in [0, 1] (or, for pictures of bytes, Bernoulli(levels=255))"
    bad, possible = label().check(torch.tensor([0, 4, -1, 3]), LATENT)
    assert bad.tolist() == [False, True, True, False]
    assert possible == "class numbers 0 to 3"


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_check_passes_data_that_fits(rows: int) -> None:
    bad, _ = image().check(torch.randint(0, 2, (rows, 2, 4), dtype=torch.uint8), LATENT)
    assert bad.tolist() == [False] * rows
    assert not label().check(torch.zeros(rows, dtype=torch.int32), LATENT)[0].any()


@pytest.mark.parametrize(
    ("part", "x", "latent", "reason"),
    [
        (image(), torch.zeros(3, 9), LATENT, "decoder gives 8 values per row .* data has 9"),
        (image(mlp(LATENT, 9, [5])), torch.zeros(3, 9), LATENT, r"networks do not take rows of shape \(9,\)"),
        (image(), torch.zeros(3, 8), LATENT + 1, "and 4 latents: mat1 and mat2"),
        (label(), torch.zeros(3), LATENT, "class numbers must be integers"),
        (label(), torch.zeros(3, 2, dtype=torch.int64), LATENT, "1 values per row, with 4 parameters each"),
        (
            Modality(mlp(8, 10, []), mlp(LATENT, 8, []), likelihoods.Gaussian()),
            torch.zeros(3, 8),
            LATENT,
            "3 latents each",
        ),
        (
            Modality(mlp(8, 5, []), mlp(LATENT, 8, []), likelihoods.Gaussian()),
            torch.zeros(3, 8),
            LATENT,
            "3 latents each",
        ),
        (
            Modality(mlp(8, 1, []), mlp(LATENT, 8, []), likelihoods.Gaussian()),
            torch.zeros(3, 8),
            LATENT,
            r"shape \(2, 1\)",
        ),
    ],
)
def test_check_refuses_networks_that_do_not_fit_the_data(part: Modality, x: Tensor, latent: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        part.check(x, latent)


class FixedOutput(nn.Module):
    """A network that returns fixed outputs for any input."""

    def __init__(self, *gives: object):
        super().__init__()
        self.gives = gives[0] if len(gives) == 1 else gives

    def forward(self, x: Tensor) -> object:
        return self.gives


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (FixedOutput({"mean": torch.zeros(2, 3)}), mlp(LATENT, 8), "the encoder gives dict of 1: one tensor or two"),
        (FixedOutput(*3 * [torch.zeros(2, 3)]), mlp(LATENT, 8), "the encoder gives tuple of 3"),
        (
            mlp(8, 6),
            FixedOutput(*2 * [torch.zeros(1, 8)]),
            "the decoder gives tuple of 2: one tensor is needed. Sev",
        ),
    ],
)
def test_check_reports_invalid_network_outputs(encoder: nn.Module, decoder: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Modality(encoder, decoder, "gaussian").check(torch.zeros(3, 8), LATENT)


@pytest.mark.parametrize("thing", ["mlp", nn.Linear, None, torch.add])
def test_a_non_module_is_refused(thing: object) -> None:
    with pytest.raises(SettingsError, match=r"modality's decoder must be a torch.nn.Module"):
        require_network(thing, "decoder")


def test_a_likelihood_may_be_given_by_name() -> None:
    part = Modality(mlp(8, 6), mlp(LATENT, 8), {"name": "gaussian", "scale": 0.5})
    assert isinstance(part.likelihood, likelihoods.Gaussian)
    with pytest.raises(SettingsError, match="no likelihood 'poison'"):
        Modality(mlp(8, 6), mlp(LATENT, 8), "poison")


def test_correct_is_per_row_and_only_where_there_is_an_accuracy() -> None:
    z, x = torch.randn(6, LATENT), torch.tensor([0, 1, 2, 3, 0, 1])
    part = label()
    right, count = part.correct(x, z)[""]
    assert right.tolist() == [float(part.decoder(z[i]).argmax() == x[i]) for i in range(6)]
    assert count.tolist() == [1.0] * 6
    assert image().correct(torch.rand(6, 2, 4), z) == {}


def test_check_does_not_change_modes_or_running_statistics() -> None:
    part = image(nn.Sequential(nn.BatchNorm1d(LATENT), mlp(LATENT, 8, [5])))
    before = {name: value.clone() for name, value in part.state_dict().items()}
    part.train()
    part.check(torch.rand(5, 8), LATENT)
    assert part.training
    assert part.decoder.training
    assert all(torch.equal(before[name], value) for name, value in part.state_dict().items())


def test_evaluating_restores_every_mode_even_after_an_error() -> None:
    frozen = nn.BatchNorm1d(1).eval()
    network = nn.Sequential(nn.Linear(1, 1), nn.Sequential(frozen, nn.Dropout()))
    before = [module.training for module in network.modules()]
    assert before == [True, True, True, False, True]

    def fail() -> None:
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in network.modules()] == before


# -- Batch norm --------------------------------------------------------------------------------------------------


def normed(image: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    if image:
        return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("of_images", [False, True])
def test_a_batch_of_one_row_uses_the_running_statistics_unchanged(of_images: bool) -> None:
    network, x = normed(of_images), torch.randn(5, 1, 3, 3) if of_images else torch.randn(5, 3)
    network(x)  # running statistics other than the initial ones
    before = {name: value.clone() for name, value in network.state_dict().items()}
    alone = run(network, x[:1])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    alone.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with evaluating(network):
        torch.testing.assert_close(alone, network(x[:1]))


def test_a_batch_of_two_rows_is_normalised_by_its_own_moments() -> None:
    network, x = normed(), torch.randn(2, 3)
    twin = normed()
    torch.testing.assert_close(run(network, x), twin(x))
    assert torch.equal(network[1].running_mean, twin[1].running_mean)  # pyright: ignore[reportArgumentType]
    assert network[1].num_batches_tracked == 1


def test_one_row_keeps_a_frozen_norm_frozen() -> None:
    network = normed()
    network[1].eval()
    run(network, torch.randn(1, 3))
    assert not network[1].training
    assert network[0].training


def test_the_last_of_overlapping_contexts_restores_the_mode() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    network[1].eval()
    first, second = evaluating(network), evaluating(network[0])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert [module.training for module in network] == [False, False]  # the other context is still active
    second.__exit__(None, None, None)
    assert [network.training, *(module.training for module in network)] == [True, True, False]


def test_uninitialised_lazy_networks_are_refused() -> None:
    encoder, decoder = nn.LazyLinear(4), nn.Linear(2, 3)
    with pytest.raises(SettingsError, match=r"the encoder has weights without a shape yet .* call it once on a batch"):
        Modality(encoder, decoder, "gaussian")
    encoder(torch.zeros(1, 3))
    assert Modality(encoder, decoder, "gaussian").encode(torch.zeros(5, 3)).mean.shape == (5, 2)
