"""What is watched: constructed posteriors whose coupling, KL and predictions are known, and the naive objective."""

import math

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.validation import (
    DEAD_KL,
    Accuracy,
    coupling_warning,
    prediction_accuracy,
    validate,
)
from mvae.modality.base import Modality
from mvae.modality.strings import StringModality
from mvae.models.mvae import MVAE
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.mlp import LabelEncoder, mlp
from tests.oracle import mvae_plan, naive_elbo, naive_kl, naive_loss

ROWS = 40


class Says(nn.Module):
    """An expert of the given precision about one latent, whose mean is the input; it knows nothing about the other."""

    def __init__(self, latent: int, precision: float):
        super().__init__()
        self.latent, self.precision = latent, precision

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = torch.zeros(len(x), 2).to(x.dtype), torch.full((len(x), 2), 20.0).to(x.dtype)
        mean[:, self.latent] = x.reshape(len(x), -1)[:, 0]
        log_var[:, self.latent] = -math.log(self.precision)
        return mean, log_var


def saying(**experts: tuple[int, float]) -> MVAE:
    return MVAE(
        {
            name: Modality(Says(*expert), nn.Linear(2, 1).double(), likelihoods.Gaussian().double())
            for name, expert in experts.items()
        },
        2,
        cross_from=(),
    )


def column(rows: int = ROWS, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, generator=torch.Generator().manual_seed(seed)).double()


def kl_of(x: Tensor, precision: float) -> float:
    """Mean over rows of KL[N(Px/(1+P), 1/(1+P)), N(0, 1)]: the expert N(x, 1/P) times the prior."""
    mean, variance = precision * x / (1 + precision), torch.full_like(x, 1 / (1 + precision))
    return float(torch.stack([naive_kl(m, v) for m, v in zip(mean, variance, strict=True)]).mean())


# -- Coupling ------------------------------------------------------------------------------------------------------


def test_codes_side_by_side_have_no_coupling() -> None:
    a, b = column(), column(seed=1)
    values = validate(saying(a=(0, 9.0), b=(1, 3.0)), Table({"a": a, "b": b}))
    assert values["kl complete/a"] == pytest.approx(kl_of(a, 9.0), abs=1e-6)
    assert values["kl complete/b"] == pytest.approx(kl_of(b, 3.0), abs=1e-6)
    assert values["kl complete/full"] == pytest.approx(kl_of(a, 9.0) + kl_of(b, 3.0), abs=1e-6)
    assert values["coupling"] == pytest.approx(0, abs=1e-6)
    assert values["coupling/share"] == pytest.approx(0, abs=1e-6)


def test_a_code_contained_in_the_others_is_fully_coupled() -> None:
    a = column()
    values = validate(saying(a=(0, 1e7), b=(0, 3.0)), Table({"a": a, "b": a}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(1, abs=1e-5)


def test_coupling_of_three_modalities_adds_up() -> None:
    """a and b say the same, c something else: of what could be shared, C_max = Σ KL − max KL, b's part is."""
    a, c = column(), column(seed=1)
    values = validate(saying(a=(0, 1e7), b=(0, 3.0), c=(1, 5.0)), Table({"a": a, "b": a, "c": c}))
    assert values["coupling"] == pytest.approx(kl_of(a, 3.0), abs=1e-5)
    assert values["coupling/share"] == pytest.approx(kl_of(a, 3.0) / (kl_of(a, 3.0) + kl_of(c, 5.0)), abs=1e-5)


def test_coupling_is_measured_on_complete_rows_only() -> None:
    model, a = saying(a=(0, 9.0), b=(0, 3.0)), column()
    complete = validate(model, Table({"a": a, "b": a}))
    wild = Table(
        {"a": torch.cat([a, 50 + a]), "b": torch.cat([a, torch.full_like(a, math.nan)])},
        {"b": torch.arange(2 * ROWS) < ROWS},
    )
    mixed = validate(model, wild)
    for name in complete:
        if name.startswith(("coupling", "kl complete", "active", "log p")):
            assert mixed[name] == pytest.approx(complete[name]), name
    assert mixed["kl/a"] > complete["kl/a"] + 10  # while the terms' own KLs are of every row that has them


def test_nothing_is_said_about_coupling_where_no_row_is_complete() -> None:
    x = column()
    first = torch.arange(ROWS) < 20
    values = validate(saying(a=(0, 9.0), b=(0, 3.0)), Table({"a": x, "b": x}, {"a": first, "b": ~first}))
    assert not [name for name in values if name.startswith(("coupling", "kl complete", "active", "log p"))]
    assert coupling_warning(values, ("a", "b")) is None
    assert all(math.isfinite(value) for value in values.values())


def test_a_column_that_no_row_has_makes_no_number() -> None:
    values = validate(saying(a=(0, 9.0), b=(0, 3.0)), Table({"a": column()}))
    assert not [name for name in values if "b" in name.split("/")]
    assert all(math.isfinite(value) for value in values.values())


def warning_of(crossed: bool = False, **kl: float) -> str | None:
    """The warning where the single experts have these KLs and nothing is shared but what `coupling` says."""
    coupling = kl.pop("coupling")
    most = sum(kl.values()) - max(kl.values())
    values = {"coupling": coupling, "coupling/share": coupling / most if most > DEAD_KL else 0.0}
    return coupling_warning(values | {f"kl complete/{name}": value for name, value in kl.items()}, tuple(kl), crossed)


def test_the_warning_names_what_is_wrong_and_the_remedy() -> None:
    assert warning_of(a=20.0, b=2.0, coupling=1.9) is None
    assert "not met: coupling C = 0.20 nats, 10% of what it could be" in str(warning_of(a=20.0, b=2.0, coupling=0.2))
    assert "recipe 'coupled', MVAE(..., cross_from=[...]), or train it longer" in str(
        warning_of(a=20.0, b=2.0, coupling=0.2)
    )
    assert "another. Train it longer, or on more complete rows" in str(
        warning_of(crossed=True, a=20.0, b=2.0, coupling=0.2)
    )
    assert "0% of what it could be" in str(warning_of(a=20.0, b=2.0, coupling=-0.5))
    assert "the expert of b is dead (KL < 0.05 nats)" in str(warning_of(a=20.0, b=0.01, coupling=0.0))
    assert "Raise its weight λ, or anneal β from 0" in str(warning_of(a=20.0, b=0.01, coupling=0.0))
    assert "the expert of a, b is dead" in str(warning_of(a=0.0, b=0.01, coupling=0.0))


def test_a_dead_expert_is_seen_by_validation() -> None:
    values = validate(saying(a=(0, 9.0), b=(1, 1e-4)), Table({"a": column(), "b": column(seed=1)}))
    assert values["kl complete/b"] == pytest.approx(kl_of(column(seed=1), 1e-4), abs=1e-6)
    assert "expert of b is dead" in str(coupling_warning(values, ("a", "b")))


# -- Predictions of one modality from another ----------------------------------------------------------------------


class Scores(nn.Module):
    """Logits (−z0, z0)."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([-z[:, 0], z[:, 0]], 1)


def test_each_modality_is_predicted_from_the_mean_of_each_others_posterior() -> None:
    x = column()
    label = (x[:, 0] > 0).long()
    label[:10] = 1 - label[:10]  # a quarter of them wrong
    tags = torch.stack([1 - label, label], 1).double()
    image = torch.rand(ROWS, 1, 2, 1).double()
    model = MVAE(
        {
            "x": Modality(Says(0, 9.0), nn.Linear(2, 1).double(), likelihoods.Gaussian().double()),
            "label": Modality(mlp(1, 4, []).double(), Scores(), likelihoods.Categorical()),
            "tags": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
            "image": Modality(mlp(2, 4, []).double(), Scores(), likelihoods.Bernoulli()),
        },
        2,
        cross_from=(),
    )
    model.modalities["label"].encoder = nn.Sequential(nn.Embedding(2, 4)).double()
    values = validate(model, Table({"x": x, "label": label, "tags": tags, "image": image}))
    assert values["accuracy x->label"] == 0.75
    assert values["accuracy x->tags"] == 0.75
    z = 0.9 * x[:, 0]
    log_p = torch.where(label == 1, 2 * z, -2 * z).sigmoid().log().mean()  # softmax(−z, z) is σ(±2z)
    assert values["log p x->label"] == pytest.approx(float(log_p))
    one, other = torch.where(label == 1, z, -z).sigmoid().log(), torch.where(label == 1, -z, z).neg().sigmoid().log()
    assert values["log p x->tags"] == pytest.approx(float((one + other).mean()))
    assert not [name for name in values if name.endswith(("->image", "->x")) and name.startswith("accuracy")]
    pairs = {f"{a}->{b}" for a in model.names for b in model.names if a != b}
    assert {name.removeprefix("log p ") for name in values if name.startswith("log p ")} == pairs


def test_active_units_are_the_latents_whose_mean_varies() -> None:
    a = column()
    values = validate(saying(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 0.01 * column(seed=1)}))
    assert values["active units/a"] == 1
    assert values["active units/b"] == 0  # it varies by (0.9 · 0.01)², less than 0.01
    assert values["active units"] == 1
    values = validate(saying(a=(0, 9.0), b=(1, 9.0)), Table({"a": a, "b": 3 + column(seed=1)}))
    assert values["active units"] == 2


# -- The objective -------------------------------------------------------------------------------------------------


def mixed() -> MVAE:
    torch.manual_seed(0)
    return MVAE(
        {
            "image": Modality(mlp(4, 4, [5]), mlp(2, 4, [5]), likelihoods.Bernoulli()),
            "label": Modality(LabelEncoder(3, 4, 5), mlp(2, 3, [5]), likelihoods.Categorical(), weight=50.0),
            "sound": Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), likelihoods.Gaussian(), weight=0.5),
        },
        2,
        random_subsets=1,  # which validation, being deterministic, leaves out,
        cross_from=(),
    ).double()


def rows(complete: bool) -> Table:
    g = torch.Generator().manual_seed(1)
    data = {
        "image": torch.rand(ROWS, 4, generator=g).double(),
        "label": torch.randint(0, 3, (ROWS,), generator=g),
        "sound": torch.randn(ROWS, 3, generator=g).double(),
    }
    if complete:
        return Table(data)
    present = {name: torch.rand(ROWS, generator=g) < 0.6 for name in data}
    present["image"] |= ~(present["label"] | present["sound"])
    return Table(data, present)


@pytest.mark.parametrize("complete", [True, False])
def test_the_objective_is_the_naive_sum_at_beta_1_over_the_deterministic_terms(complete: bool) -> None:
    model, table = mixed(), rows(complete)
    values = validate(model, table)
    terms = model.evaluation_terms(table.presence(model.names))
    assert terms.names == ("full", "image", "label", "sound")
    noise = torch.randn(4, ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        plan = mvae_plan(model, table, terms)
        assert values["objective"] == pytest.approx(float(naive_loss(model, table, plan, noise)))
        unweighted = mvae_plan(model, table, terms, torch.ones(4, 3))
        assert values["objective/unweighted"] == pytest.approx(float(naive_loss(model, table, unweighted, noise)))
        for t, name in enumerate(terms.names):
            kls = []
            for row, row_terms in enumerate(plan):
                for term in row_terms:
                    if term.t == t:
                        term.lam = dict.fromkeys(model.names, 0.0)
                        kls.append(-naive_elbo(model, table, row, term, noise[t, row], 1.0))
            assert values[f"kl/{name}"] == pytest.approx(float(torch.stack(kls).mean()))


@pytest.mark.parametrize("complete", [True, False])
def test_reconstruction_is_minus_the_mean_log_likelihood_of_what_was_scored(complete: bool) -> None:
    model, table = mixed(), rows(complete)
    values = validate(model, table)
    terms = model.evaluation_terms(table.presence(model.names))
    noise = torch.randn(4, ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        for name in model.names:
            scores = []
            for row, row_terms in enumerate(mvae_plan(model, table, terms)):
                for term in row_terms:
                    if name in term.of:
                        term.lam = {n: float(n == name) for n in model.names}
                        scores.append(naive_elbo(model, table, row, term, noise[term.t, row], 0.0))
            assert values[f"reconstruction/{name}"] == pytest.approx(-float(torch.stack(scores).mean()))


@pytest.mark.parametrize("complete", [True, False])
def test_validation_is_deterministic_and_its_chunks_change_only_which_noise_a_row_gets(complete: bool) -> None:
    model, table = mixed(), rows(complete)
    torch.manual_seed(3)
    values = validate(model, table)
    torch.manual_seed(4)
    assert validate(model, table) == values
    noisy = ("objective", "reconstruction/")
    for chunk in (1, 7, ROWS):
        found = validate(model, table, chunk=chunk)
        assert found.keys() == values.keys()
        for name, value in values.items():
            if not name.startswith(noisy):
                assert found[name] == pytest.approx(value, abs=1e-9), name
    assert validate(model, table, chunk=ROWS) == values


def test_validation_leaves_the_model_as_it_was() -> None:
    model, table = mixed().train(), rows(True)
    model.modalities["image"].encoder = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert validate(model, table) == validate(model, table)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_of_one_modality_has_no_coupling() -> None:
    values = validate(saying(a=(0, 9.0)), Table({"a": column()}))
    assert "coupling" not in values
    assert values["kl/a"] == pytest.approx(kl_of(column(), 9.0), abs=1e-6)


def test_predictions_from_any_posterior_and_those_of_validation_agree() -> None:
    torch.manual_seed(3)
    image = Modality(mlp(6, 4), mlp(2, 6), likelihoods.Bernoulli())
    model = MVAE(
        {"image": image, "label": Modality(LabelEncoder(3, 4), mlp(2, 3), likelihoods.Categorical())}, 2, cross_from=()
    )
    table = Table({"image": torch.rand(50, 6), "label": torch.randint(0, 3, (50,))})
    found = prediction_accuracy(model, table, ["image"], "label", chunk=7)
    assert list(found) == [""]
    assert found[""].mean == pytest.approx(validate(model, table)["accuracy image->label"])
    both = model.posterior(table).mean
    expected = model.modalities["label"].decoder(both).argmax(-1) == torch.as_tensor(table.columns["label"])
    found = prediction_accuracy(model, table, ["image", "label"], "label")[""]
    assert torch.equal(found.right, expected.float())
    assert found.standard_error == pytest.approx((found.mean * (1 - found.mean) / 50) ** 0.5)
    with pytest.raises(QueryError, match="no modality 'sound'"):
        prediction_accuracy(model, table, ["image"], "sound")
    signal = MVAE({"signal": Modality(mlp(3, 4), mlp(2, 3), likelihoods.Gaussian())}, 2, cross_from=())
    with pytest.raises(QueryError, match="signal is neither of classes, nor of attributes, nor of strings"):
        prediction_accuracy(signal, Table({"signal": torch.rand(5, 3)}), ["signal"], "signal")


def test_predictions_of_strings_are_counted_by_digits_and_whole() -> None:
    torch.manual_seed(2)
    string = StringModality(StringEncoder(3, 4), StringDecoder(3, 2, 8), symbols=3, length=4)
    model = MVAE({"image": Modality(mlp(6, 4), mlp(2, 6), likelihoods.Gaussian()), "string": string}, 2, cross_from=())
    lengths = torch.randint(0, 5, (60,))
    strings = torch.where(torch.arange(4) < lengths[:, None], torch.randint(0, 3, (60, 4)), 3)
    table = Table({"image": 4 * torch.rand(60, 6), "string": strings})
    found = prediction_accuracy(model, table, ["image"], "string", chunk=7)
    written = string.generate(model.posterior(table, ["image"]).mean, mean=True)
    texts = ["".join(map(str, row)).rstrip("3") for row in strings.tolist()]  # 3 is stop
    ours = ["".join(map(str, row)).rstrip("3") for row in written.tolist()]
    right = sum(a == b for true, own in zip(texts, ours, strict=True) for a, b in zip(true, own, strict=False))
    assert 0 < right < sum(map(len, texts))
    assert found[""].mean == pytest.approx(right / sum(map(len, texts)))
    assert found[" whole"].mean == pytest.approx(sum(a == b for a, b in zip(texts, ours, strict=True)) / 60)
    measured = validate(model, table)
    assert found[""].mean == pytest.approx(measured["accuracy image->string"])
    assert found[" whole"].mean == pytest.approx(measured["accuracy image->string whole"])


def test_the_standard_error_of_a_share_knows_that_digits_of_a_row_go_together() -> None:
    """Against the spread of the share over many samples, in which a row has all of its digits right or none."""
    g = torch.Generator().manual_seed(0)
    count = torch.randint(0, 5, (2000, 80), generator=g)
    right = count * torch.randint(0, 2, (2000, 80), generator=g)
    shares = [Accuracy(r, c) for r, c in zip(right, count, strict=True)]
    spread = torch.tensor([share.mean for share in shares]).std().item()
    assert sum(share.standard_error for share in shares) / 2000 == pytest.approx(spread, rel=0.05)
