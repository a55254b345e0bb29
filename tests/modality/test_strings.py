"""Strings: a normalised distribution, teacher forcing against a loop, samples against their probabilities."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import mvae
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.evaluation.validation import validate
from mvae.likelihoods import Gaussian
from mvae.modality.base import Modality
from mvae.modality.strings import StringModality, compared
from mvae.models.cvae import CVAE
from mvae.models.mvae import MVAE
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.mlp import mlp

LATENT = 2


def strings(symbols: int = 3, length: int = 3, seed: int = 0) -> StringModality:
    """A small modality whose probabilities are far from uniform."""
    torch.manual_seed(seed)
    decoder = StringDecoder(symbols, LATENT, hidden=6)
    for parameter in decoder.parameters():
        parameter.data.mul_(2.5)
    return StringModality(StringEncoder(symbols, 2 * LATENT, hidden=5), decoder, symbols, length).double()


def every_string(symbols: int, length: int) -> Tensor:
    """All Σ K^n strings, the empty one first."""
    rows = [
        [*string, *[symbols] * (length - n)]
        for n in range(length + 1)
        for string in itertools.product(range(symbols), repeat=n)
    ]
    return torch.tensor(rows)


@torch.no_grad()
def naive_log_prob(part: StringModality, row: list[int], z: Tensor) -> float:
    """Log p with one decoder call per token on all previous ones, summed up to the first stop."""
    total, tokens = 0.0, [part.start]
    for token in row:
        logits, _ = part.decoder(z[None], torch.tensor([tokens]))
        total += logits[0, -1].log_softmax(-1)[token].item()
        if token == part.stop:
            break
        tokens.append(token)
    return total


# -- log p ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbols", "length"), [(1, 1), (2, 4), (3, 3)])
def test_probabilities_of_all_strings_sum_to_one(symbols: int, length: int) -> None:
    part, x = strings(symbols, length), every_string(symbols, length)
    assert len(x) == sum(symbols**n for n in range(length + 1))
    z = torch.randn(7, 1, LATENT).double().expand(-1, len(x), -1)
    total = part.log_prob(x, z).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(7).double())


@pytest.mark.parametrize("lead", [(), (4,), (4, 2)])
def test_teacher_forcing_scores_each_row_under_each_of_its_samples(lead: tuple[int, ...]) -> None:
    part, x = strings(), every_string(3, 3)[::5]
    z = torch.randn(*lead, len(x), LATENT).double()
    found = part.log_prob(x, z)
    assert found.shape == (*lead, len(x))
    for one, of in zip(found.reshape(-1, len(x)), z.reshape(-1, len(x), LATENT), strict=True):
        expected = [naive_log_prob(part, row.tolist(), of[i]) for i, row in enumerate(x)]
        torch.testing.assert_close(one, torch.tensor(expected).double())


def test_padding_does_not_affect_values_or_gradients() -> None:
    part, x = strings(), every_string(3, 3)
    changed = x.clone()
    for row in changed:
        stops = (row == part.stop).nonzero().flatten()
        row[stops[1:]] = torch.tensor([0, -7, 99])[: len(stops[1:])]
    assert not torch.equal(x, changed)
    found = []
    for data in (x, changed):
        z = torch.ones(len(x), LATENT).double().requires_grad_()
        part.zero_grad()
        values = part.log_prob(data, z)
        values.sum().backward()
        found.append([values, z.grad, *(p.grad.clone() for p in part.decoder.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_empty_string_has_the_probability_of_stopping_at_once() -> None:
    part, z = strings(), torch.randn(1, LATENT).double()
    logits, _ = part.decoder(z, torch.tensor([[part.start]]))
    found = part.log_prob(torch.full((1, 3), part.stop), z)
    torch.testing.assert_close(found[0], logits[0, 0].log_softmax(-1)[part.stop])


def test_half_precision_networks_give_log_p_in_float32() -> None:
    part = strings().bfloat16()
    found = part.log_prob(torch.tensor([[0, 1, 3]]), torch.zeros(1, LATENT))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_the_likelihood_of_strings_equals_integration_over_z() -> None:
    """log p(x) by sampling z from the prior against ∫ p(x | z) N(z; 0, I) dz on a grid."""
    part = strings(2, 2)
    model, x = MVAE({"string": part}, LATENT, cross_from=()).double(), every_string(2, 2)
    grid = torch.linspace(-6, 6, 61).double()
    z = torch.cartesian_prod(grid, grid)
    density = torch.exp(-0.5 * z.square().sum(1)) / (2 * math.pi) * (grid[1] - grid[0]) ** 2
    with torch.no_grad():
        exact = (part.log_prob(x, z[:, None].expand(-1, len(x), -1)).exp() * density[:, None]).sum(0).log()
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-4)
    found = mvae.log_likelihood(model, Table({"string": x}), of=["string"], proposal=[], samples=20_000)
    torch.testing.assert_close(found.values, exact, rtol=0, atol=0.05)


# -- Generation ----------------------------------------------------------------------------------------------------


def test_strings_are_sampled_with_their_probabilities() -> None:
    part, x, n = strings(2, 2), every_string(2, 2), 20_000
    z = torch.tensor([0.7, -1.1]).double()
    drawn = part.generate(z.expand(n, -1), generator=torch.Generator().manual_seed(0))
    expected = part.log_prob(x, z.expand(len(x), -1)).exp()
    found = torch.stack([(drawn == row).all(1).sum() for row in x])
    assert int(found.sum()) == n  # only strings in canonical form
    assert expected.max() < 0.9
    error = (n * expected * (1 - expected)).sqrt()
    assert ((found - n * expected).abs() < 5 * error + 1).all()


@pytest.mark.parametrize("lead", [(9,), (3, 4)])
def test_the_mean_of_a_string_is_greedy_decoding(lead: tuple[int, ...]) -> None:
    part, z = strings(), 3 * torch.randn(*lead, LATENT).double()
    found = part.generate(z, mean=True)
    assert found.shape == (*lead, 3)
    for row, one in zip(found.reshape(-1, 3).tolist(), z.reshape(-1, LATENT), strict=True):
        tokens = [part.start]
        while tokens[-1] != part.stop and len(tokens) <= part.length:
            logits, _ = part.decoder(one[None], torch.tensor([tokens]))
            tokens.append(int(logits[0, -1].argmax()))
        written = tokens[1:] + [part.stop] * (part.length + 1 - len(tokens))
        assert row == written
    assert len(found.reshape(-1, 3).unique(dim=0)) > 1
    if len(lead) == 1:
        guess, log_p = part.mode_with_log_prob(z)
        assert torch.equal(guess, found)
        assert torch.equal(log_p, part.log_prob(found, z))


def test_generation_depends_only_on_its_generator() -> None:
    part, z = strings(), torch.zeros(50, LATENT).double()
    one, same, other = (part.generate(z, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


# -- In a model ----------------------------------------------------------------------------------------------------


def model() -> MVAE:
    torch.manual_seed(1)
    sound = Modality(mlp(3, 2 * LATENT, [5]), mlp(LATENT, 3, [5]), Gaussian()).double()
    return MVAE({"sound": sound, "string": strings()}, LATENT, cross_from=())


def table(rows: int = 20) -> Table:
    g = torch.Generator().manual_seed(0)
    x = every_string(3, 3)[torch.randint(0, 40, (rows,), generator=g)]
    here = torch.arange(rows) % 3 > 0
    sound = torch.randn(rows, 3, generator=g).double()
    return Table({"sound": sound, "string": x}, {"string": here, "sound": ~here | (torch.arange(rows) % 2 == 0)})


def test_a_missing_string_has_no_influence() -> None:
    data = table()
    wild = torch.as_tensor(data.columns["string"]).clone()
    wild[~data.present[:, 1]] = torch.tensor([2, 0, 1])
    other = Table({**data.columns, "string": wild}, dict(zip(data.names, data.present.T, strict=True)))
    noise = torch.randn(3, len(data), LATENT).double()
    losses = []
    for batch in (data, other):
        built = model()
        result = built(batch, noise=noise)
        result.loss.backward()
        losses.append([result.loss, *(p.grad for p in built.parameters())])
    for one, another in zip(*losses, strict=True):
        assert torch.equal(one, another)


def test_the_objective_is_the_mean_over_single_rows() -> None:
    built, data = model(), table()
    noise = torch.randn(3, len(data), LATENT).double()
    terms = built.evaluation_terms(data.presence(built.names))
    whole = built(data, terms, noise=noise).loss
    alone = [built(data.take([i]), terms.rows(torch.tensor([i])), noise=noise[:, i : i + 1]) for i in range(20)]
    torch.testing.assert_close(whole, torch.stack([result.loss for result in alone]).mean())


def test_strings_are_memorised() -> None:
    """A batch of three strings."""
    torch.manual_seed(0)
    part = StringModality(StringEncoder(3, 2 * LATENT, 16), StringDecoder(3, LATENT, 16), 3, 3, weight=20.0)
    data = Table({"string": torch.tensor([[0, 1, 2], [2, 3, 3], [3, 3, 3]])})
    built = MVAE({"string": part}, LATENT, cross_from=())
    optimizer = torch.optim.Adam(built.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        built(data).loss.backward()
        optimizer.step()
    q = built.posterior(data)
    assert torch.equal(part.generate(q.mean, mean=True), torch.as_tensor(data.columns["string"]))


def test_validation_scores_the_true_string_and_compares_the_greedy_one() -> None:
    built, data = model(), table(60)
    part = built.modalities["string"]
    assert isinstance(part, StringModality)
    assert isinstance(part.decoder, StringDecoder)
    part.decoder.head.bias.data[1] += 2  # so that not only empty strings are generated
    values = validate(built, data, chunk=7)
    row = data.present.all(1).nonzero().flatten()
    pairs = data.take(row)
    x = torch.as_tensor(pairs.columns["string"])
    mean = built.posterior(pairs, ["sound"]).mean
    scored = [naive_log_prob(part, one.tolist(), z) for one, z in zip(x, mean, strict=True)]
    assert values["log p sound->string"] == pytest.approx(sum(scored) / len(scored))
    right = symbols = whole = 0
    for true, written in zip(x.tolist(), part.generate(mean, mean=True).tolist(), strict=True):
        true, written = ([t for t in string if t != part.stop] for string in (true, written))
        right += sum(a == b for a, b in zip(true, written, strict=False))
        symbols += len(true)
        whole += true == written
    assert symbols > right > 0
    assert values["accuracy sound->string"] == pytest.approx(right / symbols)
    assert values["accuracy sound->string whole"] == pytest.approx(whole / len(x))


# -- Refusals ------------------------------------------------------------------------------------------------------


def test_every_string_and_every_sample_passes_the_check() -> None:
    part = strings()
    assert not part.check(every_string(3, 3), LATENT)[0].any()
    assert not part.check(part.generate(torch.randn(50, LATENT).double()), LATENT)[0].any()


@pytest.mark.parametrize("row", [[0, 4, 3], [-1, 0, 0], [0, 3, 0], [3, 3, 2], [3, 0, 3]])
def test_an_invalid_string_is_refused_with_its_row(row: list[int]) -> None:
    data = Table({"string": torch.tensor([[0, 1, 3], row, [3, 3, 3]])})
    message = r"modality 'string', row 1: symbols 0 to 2, and only stop \(3\) after them, are needed"
    with pytest.raises(DataError, match=message):
        MVAE({"string": strings()}, LATENT, cross_from=()).check(data)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 2, dtype=torch.int64), r"strings are rows of 3 tokens, not of shape \(2,\)"),
        (torch.zeros(4, dtype=torch.int64), r"strings are rows of 3 tokens, not of shape \(\)"),
        (torch.zeros(4, 3), "class numbers must be integers"),
    ],
)
def test_columns_of_another_shape_or_dtype_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        strings().check(x, LATENT)


def test_networks_that_do_not_fit_are_refused() -> None:
    x = torch.tensor([[0, 1, 3]])
    with pytest.raises(
        DataError, match=r"shape \(1, 1, 5\) after one token; 4 logits are needed, for 3 symbols and stop"
    ):
        StringModality(StringEncoder(3, 4), StringDecoder(4, LATENT), 3, 3).check(x, LATENT)
    with pytest.raises(DataError, match="a mean and a log-variance of 2 latents each are needed"):
        StringModality(StringEncoder(3, 6), StringDecoder(3, LATENT), 3, 3).check(x, LATENT)
    with pytest.raises(SettingsError, match="strings need ≥ 1 symbol and a length ≥ 1, not 3 and 0"):
        StringModality(nn.Identity(), nn.Identity(), 3, 0)
    with pytest.raises(TypeError, match="use log_prob or generate"):
        strings().decode(torch.zeros(1, LATENT))


def test_a_condition_is_refused_and_not_ignored() -> None:
    with pytest.raises(SettingsError, match="take the condition as a second argument"):
        CVAE({"string": strings()}, LATENT, condition="label", classes=2)


@pytest.mark.parametrize(
    ("true", "written", "right", "symbols", "whole"),
    [
        ([1, 2, 3], [1, 2, 3], 3, 3, True),
        ([1, 2, 9], [1, 2, 3], 2, 2, False),  # too long
        ([1, 2, 3], [1, 2, 9], 2, 3, False),  # too short
        ([2, 1, 9], [1, 2, 9], 0, 2, False),
        ([9, 9, 9], [9, 9, 9], 0, 0, True),
        ([9, 9, 9], [4, 9, 9], 0, 0, False),
        ([4, 9, 9], [9, 9, 9], 0, 1, False),
    ],
)
def test_compared_counts_correct_symbols_and_whole_strings(
    true: list[int], written: list[int], right: int, symbols: int, whole: bool
) -> None:
    found = compared(torch.tensor([true]), torch.tensor([written]), stop=9)
    assert [int(value) for value in found] == [right, symbols, int(whole)]
