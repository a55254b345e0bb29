"""The MVAE compared with a linear-Gaussian model, whose posteriors and likelihoods are known exactly."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, kl_divergence
from mvae.modality.base import Modality
from mvae.modality.strings import StringModality
from mvae.models.mvae import MVAE
from mvae.models.recipe import Recipe
from mvae.models.terms import full
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.mlp import LabelEncoder, mlp
from tests.oracle import LinearGaussian, mvae_plan, naive_loss

SUBSETS = [list(s) for n in range(4) for s in itertools.combinations(["x1", "x2", "x3"], n)]


def incomplete(table: Table) -> Table:
    """The table with half its cells missing, and NaN in them."""
    present = torch.rand(len(table), 3, generator=torch.Generator().manual_seed(0)) < 0.5
    present[:, 0] |= ~present.any(1)
    columns = {}
    for i, name in enumerate(table.names):
        columns[name] = torch.as_tensor(table.columns[name]).clone()
        columns[name][~present[:, i]] = float("nan")
    return Table(columns, {name: present[:, i] for i, name in enumerate(table.names)})


def corners(latent: int, terms: int) -> Tensor:
    """Noise at every corner (±1, …, ±1) for every term; averages are exact for functions quadratic in z."""
    points = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=latent)), dtype=torch.float64)
    return points.expand(terms, -1, -1)


def expected_elbo(model: MVAE, table: Table, row: int) -> Tensor:
    """The exact expectation over z of the ELBO of a row's observed values."""
    copies = table.take([row] * 2**model.latent_dim)
    terms = full(copies.presence(model.names))
    return -model(copies, terms, noise=corners(model.latent_dim, 1)).loss


# -- The oracle itself -------------------------------------------------------------------------------------------


def test_closed_forms_obey_probability_laws() -> None:
    exact = LinearGaussian(2, [3, 4, 2], seed=0)
    table = exact.data(5, seed=1)
    joint = exact.log_prob(table, ["x1", "x2", "x3"])
    chain = exact.log_conditional(table, ["x1", "x3"], ["x2"]) + exact.log_prob(table, ["x2"])
    torch.testing.assert_close(joint, chain)
    mean, variance = exact.posterior(table, ["x1", "x2"])  # Bayes: log p(z|x) = log p(z) + log p(x|z) − log p(x)
    z = torch.randn(5, 2).double()
    normal = torch.distributions.Normal
    posterior = normal(mean, variance.sqrt()).log_prob(z).sum(-1)
    joint = normal(0.0, 1.0).log_prob(z).sum(-1)
    for name in ("x1", "x2"):
        p = normal(z @ exact.loading[name].T + exact.offset[name], exact.scale[name])
        joint = joint + p.log_prob(torch.as_tensor(table.columns[name])).sum(-1)
    torch.testing.assert_close(posterior, joint - exact.log_prob(table, ["x1", "x2"]))


def test_oracle_data_follow_model() -> None:
    exact = LinearGaussian(1, [2], seed=3)
    x = torch.as_tensor(exact.data(20_000, seed=4).columns["x1"])
    covariance = exact.loading["x1"] @ exact.loading["x1"].T + exact.scale["x1"] ** 2 * torch.eye(2)
    torch.testing.assert_close(x.mean(0), exact.offset["x1"], rtol=0, atol=0.05)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0.05, atol=0.05)


# -- Posteriors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", SUBSETS, ids=lambda s: "+".join(s) or "nothing")
@pytest.mark.parametrize("latent", [1, 2, 3])
def test_product_of_experts_is_exact_posterior(latent: int, given: list[str]) -> None:
    exact = LinearGaussian(latent, [3, 4, 5], seed=latent)
    for table in (exact.data(6, seed=1), incomplete(exact.data(6, seed=2))):
        q = exact.model.posterior(table, given=given)
        mean, variance = exact.posterior(table, given)
        torch.testing.assert_close(q.mean, mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(q.variance, variance, rtol=1e-10, atol=1e-10)


def test_perturbed_encoder_changes_only_posterior() -> None:
    exact, wrong = LinearGaussian(2, [3, 4], seed=0), LinearGaussian(2, [3, 4], seed=0, perturb=0.5)
    table = exact.data(4, seed=1)
    torch.testing.assert_close(wrong.log_prob(table, ["x1"]), exact.log_prob(table, ["x1"]))  # only q is wrong
    assert (wrong.model.posterior(table).mean - exact.posterior(table, ["x1", "x2"])[0]).abs().min() > 1e-3
    assert (wrong.model.posterior(table).variance > exact.posterior(table, ["x1", "x2"])[1]).all()


# -- The bound ---------------------------------------------------------------------------------------------------


def test_exact_posterior_elbo_is_log_p() -> None:
    exact = LinearGaussian(2, [3, 4, 2], seed=5)
    table = incomplete(exact.data(8, seed=6))
    log_prob = exact.log_prob(table, ["x1", "x2", "x3"])
    for row in range(8):
        torch.testing.assert_close(expected_elbo(exact.model, table, row), log_prob[row], rtol=1e-10, atol=1e-10)


def test_exact_posterior_eq5_is_sum_of_log_p() -> None:
    exact = LinearGaussian(2, [3, 4, 2], seed=5)
    exact.model.random_subsets = 2
    copies = exact.data(1, seed=7).take([0] * 4)
    terms = exact.model.terms(copies.presence(exact.model.names), torch.Generator().manual_seed(0))
    loss = exact.model(copies, terms, noise=corners(2, len(terms.names))).loss
    subsets = [[n for n, taken in zip(exact.names, mask, strict=True) if taken] for mask in terms.given[:, 0].tolist()]
    assert subsets[:4] == [["x1", "x2", "x3"], ["x1"], ["x2"], ["x3"]]
    assert len(subsets) > 4
    expected = torch.stack([exact.log_prob(copies, of)[0] for of in subsets]).sum()
    torch.testing.assert_close(-loss, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("perturb", [-0.4, 0.3, 1.0])
def test_elbo_gap_is_kl_to_true_posterior(perturb: float) -> None:
    wrong = LinearGaussian(2, [3, 4], seed=8, perturb=perturb)
    table = wrong.data(5, seed=9)
    mean, variance = wrong.posterior(table, ["x1", "x2"])
    truth = Gaussian.from_mean_log_var(mean, variance.log())
    q = wrong.model.posterior(table)
    assert isinstance(q, Gaussian)
    gap = kl_divergence(q, truth)
    assert (gap > 1e-3).all()
    expected = wrong.log_prob(table, ["x1", "x2"]) - gap
    for row in range(5):
        torch.testing.assert_close(expected_elbo(wrong.model, table, row), expected[row], rtol=1e-10, atol=1e-10)


def test_cross_term_is_joint_bound_given_one_modality() -> None:
    """E_{q(z|x1)}[log p(x1, x2 | z)] − KL[q(z|x1), p(z)] = log p(x1, x2) − KL[q(z|x1), p(z|x1, x2)]."""
    exact = LinearGaussian(2, [3, 4], seed=10)
    exact.model.recipe = Recipe(("x1",))
    copies = exact.data(1, seed=11).take([0] * 4)
    terms = exact.model.terms(copies.presence(exact.model.names))
    assert terms.names == ("full", "x1", "x2", "x1 to all")
    loss = exact.model(copies, terms, noise=corners(2, 4)).loss
    (m1, v1), (m12, v12) = (exact.posterior(copies, given) for given in (["x1"], ["x1", "x2"]))
    gap = kl_divergence(Gaussian.from_mean_log_var(m1, v1.log()), Gaussian.from_mean_log_var(m12, v12.log()))[0]
    both, x1, x2 = (exact.log_prob(copies, of)[0] for of in (["x1", "x2"], ["x1"], ["x2"]))
    torch.testing.assert_close(-loss, both + x1 + x2 + both - gap, rtol=1e-10, atol=1e-10)


# -- Settings ----------------------------------------------------------------------------------------------------


def part(weight: float = 1.0) -> Modality:
    return Modality(nn.Linear(1, 2), nn.Linear(1, 1), likelihoods.Gaussian(), weight)


def test_weight_depends_on_kind_of_term() -> None:
    model = MVAE({"a": part(), "b": part(50.0), "c": part(2.0)}, 1, random_subsets=1, cross_from=["a"], cross_share=0.2)
    complete, of_b = [True, True, True], [False, True, False]
    terms = model.terms(torch.tensor([complete]))
    assert terms.names == ("full", "a", "b", "c", "random 1", "a to all")
    assert terms.likelihood_weight is not None
    assert terms.likelihood_weight.tolist() == [[1, 1, 1], *[[1, 50, 2]] * 3, [1, 1, 1], [1, 10, 1]]
    for complete_rows, weight in ((1, 50), (2, 25), (4, 12.5)):  # of five rows: the fewer, the more each counts
        terms = model.terms(torch.tensor([complete] * complete_rows + [of_b] * (5 - complete_rows)))
        assert terms.likelihood_weight is not None
        torch.testing.assert_close(terms.likelihood_weight[-1], torch.tensor([1.0, weight, max(1, weight / 25)]))
        assert terms.weight[:, 4].tolist() == [0, 0, 1, 0, 0, 0]  # a row with b only has no joint term
    assert model.terms(torch.tensor([of_b] * 3)).weight[-1].tolist() == [0, 0, 0]
    whole = MVAE({"a": part(), "b": part(50.0), "c": part(0.5)}, 1, cross_from=["a"])
    weights = whole.terms(torch.tensor([complete])).likelihood_weight
    assert weights is not None
    assert weights[-1].tolist() == [1, 50, 1]


def rich(values: int, likelihood: likelihoods.Likelihood | None = None, outputs: int | None = None) -> Modality:
    return Modality(nn.Linear(values, 4), nn.Linear(2, outputs or values), likelihood or likelihoods.Gaussian())


def test_default_cross_from_is_richest_modalities() -> None:
    classes = rich(1, likelihoods.Categorical(), outputs=50)  # fifty decoder outputs for one value
    string = StringModality(StringEncoder(3, 4, 8), StringDecoder(3, 2, 8), symbols=3, length=4)

    def sources(**parts: Modality) -> tuple[str, ...]:
        return MVAE(parts, 2).cross_from

    assert sources(image=rich(64), label=classes) == ("image",)
    assert sources(a=rich(50), b=rich(5), c=rich(4)) == ("a", "b")  # b has a tenth of a's values
    assert sources(a=rich(1), label=classes) == ("a", "label")
    assert sources(image=rich(64), text=string) == ("image",)
    assert sources(image=rich(40), text=string) == ("image", "text")
    assert sources(image=rich(40)) == ()
    assert sources(**{f"x{i}": rich(1) for i in range(30)}) == tuple(f"x{i}" for i in range(8))
    assert sources(a=rich(3), broken=Modality(nn.Linear(9, 4), nn.Linear(7, 9), likelihoods.Gaussian())) == ("a",)
    assert MVAE({"a": rich(3), "b": rich(3)}, 2, cross_from=()).cross_from == ()


def test_finding_richest_modalities_has_no_side_effects() -> None:
    part = Modality(
        nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 3)), likelihoods.Gaussian()
    )
    before = {name: value.clone() for name, value in part.state_dict().items()}
    state = torch.get_rng_state()
    MVAE({"a": part, "b": rich(3)}, 2)
    other = torch.get_rng_state()
    torch.set_rng_state(state)
    rich(3)  # only its own initial weights were drawn
    assert torch.equal(other, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    assert part.training


def test_random_subsets_and_distinct_terms_follow_settings() -> None:
    names, present = ["a", "b", "c", "d"], torch.ones(1, 4, dtype=torch.bool)
    assert MVAE({n: part() for n in names}, 1, cross_from=()).terms(present).names == ("full", *names)
    literal = MVAE({n: part() for n in names}, 1, random_subsets=3, distinct_terms=False, cross_from=()).terms(present)
    assert literal.names == ("full", *names, "random 1", "random 2", "random 3")
    alone = torch.tensor([[True, False, False, False]])
    assert MVAE({n: part() for n in names}, 1, cross_from=()).terms(alone).weight.sum() == 1
    assert MVAE({n: part() for n in names}, 1, distinct_terms=False, cross_from=()).terms(alone).weight.sum() == 2


def test_terms_are_static_without_random_subsets() -> None:
    names = ["a", "b", "c"]
    assert MVAE({n: part() for n in names}, 1, cross_from=()).static_terms
    assert MVAE(
        {n: part() for n in names[:2]}, 1, random_subsets=1, cross_from=()
    ).static_terms  # two modalities have no random subsets
    assert not MVAE({n: part() for n in names}, 1, random_subsets=1, cross_from=()).static_terms


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="random_subsets must be ≥ 0, not -1"):
        MVAE({"a": part()}, 1, random_subsets=-1, cross_from=())
    with pytest.raises(SettingsError, match="cross_from names 'b'; the modalities are a"):
        MVAE({"a": part()}, 1, cross_from=["b"])
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(SettingsError, match="cross_share, a share of λ, must be above 0 and at most 1, not"):
            MVAE({"a": part(), "b": part()}, 1, cross_from=["a"], cross_share=share)


# -- One ε for all terms of a row (App. I) -----------------------------------------------------------------------


def three_columns(rows: int) -> Table:
    g = torch.Generator().manual_seed(1)
    present = torch.rand(rows, 3, generator=g) < 0.7
    present[:, 0] |= ~present.any(1)
    columns = {
        "image": torch.rand(rows, 4, generator=g).double(),
        "label": torch.randint(0, 3, (rows,), generator=g),
        "sound": torch.randn(rows, 3, generator=g).double(),
    }
    return Table(columns, {name: present[:, i] for i, name in enumerate(columns)})


def with_shared_noise(shared: bool, cross_from: tuple[str, ...]) -> MVAE:
    torch.manual_seed(0)
    modalities = {
        "image": Modality(mlp(4, 4, [5]), mlp(2, 4, [5]), likelihoods.Bernoulli()),
        "label": Modality(LabelEncoder(3, 4, 5), mlp(2, 3, [5]), likelihoods.Categorical(), weight=50.0),
        "sound": Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), likelihoods.Gaussian(), weight=0.5),
    }
    return MVAE(modalities, 2, random_subsets=2, cross_from=cross_from, shared_noise=shared).double()


@pytest.mark.parametrize("cross_from", [(), ("image",)])
def test_shared_noise_uses_one_epsilon_per_row(cross_from: tuple[str, ...]) -> None:
    model, table = with_shared_noise(True, cross_from), three_columns(9)
    terms = model.terms(table.presence(model.names), torch.Generator().manual_seed(3))
    noise = torch.randn(len(terms.names), 9, 2, generator=torch.Generator().manual_seed(4)).double()
    plan = mvae_plan(model, table, terms)
    for row_terms in plan:
        for term in row_terms:
            term.t = 0
    gradients = []
    for loss in (model(table, terms, beta=0.3, noise=noise).loss, naive_loss(model, table, plan, noise, 0.3)):
        model.zero_grad()
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(*gradients)
    other = torch.cat([noise[:1], torch.randn_like(noise[1:])])
    assert torch.equal(model(table, terms, noise=noise).loss, model(table, terms, noise=other).loss)
    apart = with_shared_noise(False, cross_from)
    assert not torch.equal(apart(table, terms, noise=noise).loss, apart(table, terms, noise=other).loss)
