"""Likelihoods against torch.distributions, in float64, for events of every shape and any leading axes."""

import math

import pytest
import torch
from torch import Tensor, distributions

from mvae import likelihoods
from mvae.errors import DataError, SettingsError

EVENTS = [(), (5,), (2, 3, 4)]
LEADS = [(), (3,), (3, 2)]
ROWS = 4


def data(family: likelihoods.Likelihood, event: tuple[int, ...], classes: int = 6) -> Tensor:
    match family:
        case likelihoods.Categorical():
            return torch.randint(0, classes, (ROWS, *event))
        case likelihoods.Bernoulli():
            return torch.randint(0, 2, (ROWS, *event)).double()
        case _:
            return torch.randn(ROWS, *event).double()


def parameters(
    family: likelihoods.Likelihood, lead: tuple[int, ...], event: tuple[int, ...], classes: int = 6
) -> Tensor:
    last = (classes,) if isinstance(family, likelihoods.Categorical) else ()
    return 2 * torch.randn(*lead, ROWS, *event, *last).double()


def as_torch(family: likelihoods.Likelihood, params: Tensor) -> distributions.Distribution:
    match family:
        case likelihoods.Categorical():
            return distributions.Categorical(logits=params)
        case likelihoods.Bernoulli():
            return distributions.Bernoulli(logits=params)
        case likelihoods.Gaussian():
            return distributions.Normal(params, family.log_scale.exp())
        case likelihoods.Laplace():
            return distributions.Laplace(params, family.log_scale.exp())
        case _:
            raise NotImplementedError


FAMILIES = [
    likelihoods.Bernoulli(),
    likelihoods.Categorical(),
    likelihoods.Gaussian(0.3).double(),
    likelihoods.Gaussian(2.0, learned=True).double(),
    likelihoods.Laplace(0.7).double(),
]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)


@each_family
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("lead", LEADS)
def test_log_prob_matches_torch_distributions(
    family: likelihoods.Likelihood, event: tuple[int, ...], lead: tuple[int, ...]
) -> None:
    x, params = data(family, event), parameters(family, lead, event)
    elements = as_torch(family, params).log_prob(x.expand(*lead, ROWS, *event))
    expected = elements.reshape(*lead, ROWS, -1).sum(-1)
    result = family.log_prob(params, x)
    assert result.shape == (*lead, ROWS)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


@each_family
@pytest.mark.parametrize("event", EVENTS)
def test_float32_log_prob_matches_float64(family: likelihoods.Likelihood, event: tuple[int, ...]) -> None:
    x, params = data(family, event), parameters(family, (), event)
    exact = family.log_prob(params, x)
    single = family.log_prob(params.float(), x if x.dtype == torch.int64 else x.float())
    torch.testing.assert_close(single.double(), exact.detach(), rtol=2e-5, atol=2e-5)


@each_family
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("lead", LEADS)
def test_samples_and_means_have_the_shape_of_the_data(
    family: likelihoods.Likelihood, event: tuple[int, ...], lead: tuple[int, ...]
) -> None:
    params = parameters(family, lead, event)
    assert family.sample(params).shape == (*lead, ROWS, *event)
    last = (6,) if isinstance(family, likelihoods.Categorical) else ()
    assert family.mean(params).shape == (*lead, ROWS, *event, *last)
    torch.testing.assert_close(
        family.mean(params),
        params.softmax(-1) if isinstance(family, likelihoods.Categorical) else as_torch(family, params).mean,
    )


@each_family
def test_samples_follow_the_distribution(family: likelihoods.Likelihood) -> None:
    n = 20_000
    params = parameters(family, (), (3,), classes=4)
    draws = family.sample(params.expand(n, *params.shape), torch.Generator().manual_seed(0)).double()
    if isinstance(family, likelihoods.Categorical):
        assert draws.unique().tolist() == [0, 1, 2, 3]
        found = torch.stack([(draws == k).double().mean(0) for k in range(4)], -1)
        spread = (params.softmax(-1) * (1 - params.softmax(-1))).sqrt()
        assert ((found - params.softmax(-1)).abs() < 5 * spread / math.sqrt(n)).all()
        return
    p = as_torch(family, params)
    if isinstance(family, likelihoods.Bernoulli):
        assert draws.unique().tolist() == [0, 1]
    assert ((draws.mean(0) - p.mean).abs() < 5 * p.stddev / math.sqrt(n)).all()
    torch.testing.assert_close(draws.var(0), p.variance.detach(), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("family", [likelihoods.Gaussian(0.5), likelihoods.Laplace(0.5)])
def test_real_samples_pass_a_kolmogorov_smirnov_test(family: likelihoods.Likelihood) -> None:
    from scipy import stats

    draws = family.sample(torch.full((20_000,), 1.5), torch.Generator().manual_seed(1)).numpy()
    law = stats.norm(1.5, 0.5) if isinstance(family, likelihoods.Gaussian) else stats.laplace(1.5, 0.5)
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3


@each_family
def test_same_generator_gives_the_same_sample(family: likelihoods.Likelihood) -> None:
    params = parameters(family, (2,), (3,))
    one, same = (family.sample(params, torch.Generator().manual_seed(5)) for _ in range(2))
    other = family.sample(params, torch.Generator().manual_seed(6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_laplace_sample_is_finite_for_a_uniform_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.zeros(2, 3))
    assert likelihoods.Laplace().sample(torch.zeros(2, 3)).isfinite().all()


# -- Columns as they are stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [likelihoods.Likelihood(), likelihoods.Gaussian(), likelihoods.Laplace()])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float64])
def test_numbers_keep_their_unit_in_any_dtype(family: likelihoods.Likelihood, dtype: torch.dtype) -> None:
    assert family.prepare(torch.tensor([[0, 20, 255]], dtype=dtype), torch.float32).tolist() == [[0.0, 20.0, 255.0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_levels_are_declared_and_not_inferred_from_dtype(dtype: torch.dtype) -> None:
    column = torch.tensor([[0, 51, 255]], dtype=dtype)
    assert likelihoods.Bernoulli().prepare(column, torch.float32).tolist() == [[0.0, 51.0, 255.0]]
    prepared = likelihoods.Bernoulli(levels=255).prepare(column, torch.float32)
    torch.testing.assert_close(likelihoods.Bernoulli(levels=255).stored(prepared), column.float())
    assert prepared.dtype == torch.float32
    torch.testing.assert_close(prepared, torch.tensor([[0.0, 0.2, 1.0]]))
    assert column.tolist() == [[0, 51, 255]]  # the stored column is left alone


def test_other_numbers_are_cast_unchanged() -> None:
    assert likelihoods.Bernoulli().prepare(torch.tensor([True, False]), torch.float32).tolist() == [1.0, 0.0]
    assert likelihoods.Gaussian().prepare(torch.tensor([-3, 300]), torch.float64).tolist() == [-3.0, 300.0]
    stored = torch.tensor([0.5])
    assert likelihoods.Gaussian().prepare(stored, torch.float64).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_class_numbers_of_any_integer_type_become_int64(dtype: torch.dtype) -> None:
    prepared = likelihoods.Categorical().prepare(torch.tensor([0, 1, 1]).to(dtype), torch.float32)
    assert prepared.dtype == torch.int64
    assert prepared.tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_float_class_numbers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match="must be integers"):
        likelihoods.Categorical().prepare(torch.tensor([0.0, 1.0]).to(dtype), torch.float32)


def test_invalid_values_are_located() -> None:
    nan, inf = math.nan, math.inf
    x = torch.tensor([[0.0, 1.0, 0.5, -0.1, 1.1, nan, inf, -inf]])
    bad, possible = likelihoods.Bernoulli().invalid_values(x, torch.zeros(1, 8))
    assert bad.tolist() == [[False] * 3 + [True] * 5]
    assert "[0, 1]" in possible
    for family in (likelihoods.Gaussian(), likelihoods.Laplace()):
        bad, possible = family.invalid_values(x, torch.zeros(1, 8))
        assert bad.tolist() == [[False] * 5 + [True] * 3]
        assert "finite" in possible
    bad, possible = likelihoods.Categorical().invalid_values(torch.tensor([-1, 0, 3, 4]), torch.zeros(1, 4))
    assert bad.tolist() == [True, False, False, True]
    assert "0 to 3" in possible


# -- Bernoulli ---------------------------------------------------------------------------------------------------


def test_grey_levels_are_scored_by_their_cross_entropy() -> None:
    x, logits = torch.rand(4, 7).double(), torch.randn(4, 7).double()
    p = 1 / (1 + torch.exp(-logits))
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    torch.testing.assert_close(likelihoods.Bernoulli().log_prob(logits, x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_saturated_logits_give_the_exact_cross_entropy_and_gradient(target: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, -100.0, 100.0, 1e4]], dtype=dtype, requires_grad=True)
    x = torch.full((1, 4), target, dtype=dtype)
    value = likelihoods.Bernoulli().elementwise(logits, x)
    # log(1 − σ(l)) is −l for a large l and 0 for a very negative one, and log σ(l) its mirror image
    expected = [target * -1e4, target * -100, (1 - target) * -100, (1 - target) * -1e4]
    torch.testing.assert_close(value.detach()[0], torch.tensor(expected, dtype=dtype), rtol=1e-5, atol=1e-6)
    value.sum().backward()
    slope = torch.tensor([target, target, target - 1, target - 1], dtype=dtype)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], slope, rtol=1e-5, atol=1e-6)


def test_saturated_class_logits_give_finite_log_prob_and_gradient() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    value = likelihoods.Categorical().log_prob(logits, torch.tensor([1, 2]))
    torch.testing.assert_close(value.detach(), torch.tensor([-2e4, -math.log(2)]))
    value.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0, 0.0], [0.0, -0.5, 0.5]]))


# -- Scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [likelihoods.Gaussian, likelihoods.Laplace])
def test_only_a_learned_scale_is_a_parameter(
    kind: type[likelihoods.Gaussian] | type[likelihoods.Laplace],
) -> None:
    learned, fixed = kind(0.5, learned=True).double(), kind(0.5).double()
    assert [name for name, _ in learned.named_parameters()] == ["log_scale"]
    assert list(fixed.parameters()) == []
    assert "log_scale" in fixed.state_dict()  # it is still saved in a checkpoint
    x, params = torch.randn(3, 2).double(), torch.randn(3, 2).double()
    learned.log_prob(params, x).sum().backward()
    step = 1e-6
    values = []
    for sign in (1, -1):
        moved = kind(0.5).double()
        moved.log_scale.add_(sign * step)
        values.append(moved.log_prob(params, x).sum())
    torch.testing.assert_close(learned.log_scale.grad, (values[0] - values[1]) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_invalid_scale_is_refused(scale: float) -> None:
    with pytest.raises(SettingsError, match="scale of Gaussian must be positive"):
        likelihoods.Gaussian(scale)


# -- A decoder's output ------------------------------------------------------------------------------------------


def test_flat_output_is_reshaped_to_the_image() -> None:
    flat = torch.arange(2 * 3 * 6.0).reshape(6, 6)
    arranged = likelihoods.Bernoulli().arrange(flat, torch.Size([2, 3]), torch.Size([1, 2, 3]))
    assert arranged.shape == (2, 3, 1, 2, 3)
    assert torch.equal(arranged[1, 2, 0].flatten(), flat[5])


def test_scalar_event_takes_one_output() -> None:
    arranged = likelihoods.Gaussian().arrange(torch.ones(6, 1), torch.Size([2, 3]), torch.Size([]))
    assert arranged.shape == (2, 3)


def test_output_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"6 values per row .* but the data has 5"):
        likelihoods.Gaussian().arrange(torch.zeros(4, 6), torch.Size([4]), torch.Size([5]))
    with pytest.raises(DataError, match=r"1 values per row, with 12 parameters each .* but the data has 3"):
        likelihoods.Categorical().arrange(torch.zeros(4, 12), torch.Size([4]), torch.Size([3]))
    with pytest.raises(DataError, match=r"3 values per row, with 12 parameters each .* but the data has 1"):
        likelihoods.Categorical().arrange(torch.zeros(4, 3, 12), torch.Size([4]), torch.Size([]))


@pytest.mark.parametrize(("made", "event"), [((3, 8, 8), (8, 8, 3)), ((1, 6, 4), (4, 6)), ((6, 4), (4, 1, 6))])
def test_axes_in_another_order_are_refused(made: tuple[int, ...], event: tuple[int, ...]) -> None:
    params, lead = torch.arange(5.0 * math.prod(made)).reshape(5, *made), torch.Size([5])
    with pytest.raises(DataError, match=r"the same axes in another order .*: permute the data's"):
        likelihoods.Gaussian().arrange(params, lead, torch.Size(event))
    for same in (made, (1, *made), (*made, 1), (math.prod(made),)):
        assert torch.equal(likelihoods.Gaussian().arrange(params, lead, torch.Size(same)).flatten(), params.flatten())
    with pytest.raises(DataError, match="in another order"):
        Scaled().arrange(torch.stack([params, params], -1), lead, torch.Size(event))


def test_likelihood_without_a_density_is_a_type_error() -> None:
    bare, x = likelihoods.Likelihood(), torch.zeros(1, 1)
    for call in (lambda: bare.log_prob(x, x), lambda: bare.mean(x), lambda: bare.sample(x)):
        with pytest.raises(TypeError, match="Likelihood"):
            call()


# -- Several parameters per value ----------------------------------------------------------------------------------


class Scaled(likelihoods.Likelihood):
    """A Gaussian with a scale per value."""

    parameters_per_value = 2

    def elementwise(self, params: Tensor, x: Tensor) -> Tensor:
        return distributions.Normal(params[..., 0], params[..., 1].exp()).log_prob(x)


@pytest.mark.parametrize("event", EVENTS)
def test_parameter_axis_stays_last(event: tuple[int, ...]) -> None:
    flat = torch.randn(6, max(1, math.prod(event)), 2).double()
    arranged = Scaled().arrange(flat, torch.Size([2, 3]), torch.Size(event))
    assert arranged.shape == (2, 3, *event, 2)
    assert torch.equal(arranged.reshape(flat.shape), flat)
    x = torch.randn(3, *event).double()
    expected = distributions.Normal(arranged[..., 0], arranged[..., 1].exp()).log_prob(x).reshape(2, 3, -1).sum(-1)
    torch.testing.assert_close(Scaled().log_prob(arranged, x), expected)


def test_wrong_number_of_parameters_is_refused() -> None:
    for shape in [(4, 6), (4, 3, 3), (4,)]:
        with pytest.raises(DataError, match="Scaled needs a last axis of 2 parameters per value"):
            Scaled().arrange(torch.zeros(shape), torch.Size([4]), torch.Size([3]))
    with pytest.raises(DataError, match=r"2 values per row, with 2 parameters each .* but the data has 3"):
        Scaled().arrange(torch.zeros(4, 2, 2), torch.Size([4]), torch.Size([3]))


# -- By name -------------------------------------------------------------------------------------------------------


def test_named_builds_likelihoods_and_keeps_objects() -> None:
    for name, kind in likelihoods.LIKELIHOODS.items():
        needs = {"ordinal": {"classes": 3}}.get(name, {})
        assert type(likelihoods.named({"name": name, **needs})) is kind
    learned = likelihoods.named({"name": "laplace", "scale": 0.5, "learned": True})
    assert [name for name, _ in learned.named_parameters()] == ["log_scale"]
    own = Scaled()
    assert likelihoods.named(own) is own


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gausian", r"no likelihood 'gausian'; there are bernoulli, categorical, gaussian, .* \(did you mean"),
        ({"name": "bernoulli", "scale": 1.0}, "the likelihood 'bernoulli' has no option 'scale'; it has levels"),
        ({"name": "gaussian", "learned": 1}, "learned of the likelihood 'gaussian' must be true or false, not 1"),
        (likelihoods.Bernoulli, "names no likelihood"),
        (None, "names no likelihood"),
    ],
)
def test_invalid_likelihood_is_refused(spec: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        likelihoods.named(spec)


# -- The smallest scale --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_least_scale_bounds_the_density_of_a_constant_column(kind: str) -> None:
    family = likelihoods.named({"name": kind, "learned": True, "scale": 0.1, "least": 0.01})
    optimizer = torch.optim.SGD(family.parameters(), lr=0.1)
    x = torch.full((5, 1), 3.0)
    for _ in range(100):
        optimizer.zero_grad()
        (-family.log_prob(x, x).mean()).backward()
        optimizer.step()
    peak = distributions.Normal(0.0, 0.01) if kind == "gaussian" else distributions.Laplace(0.0, 0.01)
    torch.testing.assert_close(family.log_prob(x, x), peak.log_prob(torch.zeros(5)))
    for _ in range(50):  # once the column varies, the scale rises again
        optimizer.zero_grad()
        (-family.log_prob(x + 0.03 * torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]]), x).mean()).backward()
        optimizer.step()
    spread = family.get_parameter("log_scale").exp().item()
    # the best fit: the root mean square or the mean absolute value
    expected = 0.03 * math.sqrt(2) if kind == "gaussian" else 0.03 * 1.2
    assert spread == pytest.approx(expected, rel=0.05)


def test_least_scale_above_the_initial_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"starts at 0\.1: least must be above 0 and at most"):
        likelihoods.Gaussian(0.1, learned=True, least=0.2)
    likelihoods.Gaussian(1e-5)  # a fixed scale is used as given


# -- Accuracy ------------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_correct_predictions() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert likelihoods.Categorical().accuracy(logits, torch.tensor([0, 2, 2])).tolist() == [1, 1, 0]  # pyright: ignore
    words = torch.stack([logits, logits])  # two rows of three positions
    right = likelihoods.Categorical().accuracy(words, torch.tensor([[0, 2, 2], [0, 2, 1]]))
    torch.testing.assert_close(right, torch.tensor([2 / 3, 1.0]))
    tags = likelihoods.Bernoulli().accuracy(torch.tensor([[3.0, 3.0, 0.1]]), torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(tags, torch.tensor([2 / 3]))
    one = likelihoods.Bernoulli().accuracy(torch.tensor([[-1.0], [-1.0]]), torch.tensor([1.0, 0.0]))
    assert one is not None
    assert one.tolist() == [0, 1]


def test_images_and_real_numbers_have_no_accuracy() -> None:
    assert likelihoods.Bernoulli().accuracy(torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3)) is None
    assert likelihoods.Bernoulli().accuracy(torch.ones(2, 3, 3), torch.ones(2, 3, 3)) is None
    assert likelihoods.Gaussian().accuracy(torch.ones(2, 3), torch.ones(2, 3)) is None
