"""Pseudo-labels for missing values compared with a naive loop, and what must not affect them."""

import pytest
import torch
from torch import Tensor, nn

from mvae import likelihoods
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.gaussian import Gaussian, product
from mvae.modality.augment import Noise
from mvae.modality.base import Modality
from mvae.modality.strings import StringModality
from mvae.models.mvae import MVAE
from mvae.models.pseudo_labels import STEP, SURE, Balance, with_pseudo_labels
from mvae.models.terms import Terms
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.mlp import LabelEncoder, mlp

ROWS, LATENT = 40, 2
NAMES = ("image", "label", "flag")
SHARE = 0.2


def pseudo_labelled(model: MVAE, x: dict[str, Tensor], terms: Terms, beta: float) -> tuple[dict[str, Tensor], Terms]:
    return with_pseudo_labels(model, model.pseudo_labels, model.balances, model.recipe, x, terms, beta)


def model_and_table(pseudo_labels: tuple[str, ...] = ("label", "flag"), seed: int = 0) -> tuple[MVAE, Table]:
    """Three modalities with missing cells; the class decoders are confident in about half their predictions."""
    torch.manual_seed(seed)
    label = Modality(LabelEncoder(4, 2 * LATENT, 8), mlp(LATENT, 4, (8,)), likelihoods.Categorical(), weight=50.0)
    flag = Modality(mlp(1, 2 * LATENT, (8,)), mlp(LATENT, 1, (8,)), likelihoods.Bernoulli(), weight=3.0)
    modalities = {
        "image": Modality(mlp(6, 2 * LATENT, (8,)), mlp(LATENT, 6, (8,)), likelihoods.Bernoulli()),
        "label": label,
        "flag": flag,
    }
    model = MVAE(modalities, LATENT, cross_from=["image"], cross_share=SHARE, pseudo_labels=pseudo_labels).double()
    with torch.no_grad():
        for modality, scale in ((label, 30.0), (flag, 15.0)):
            for parameter in modality.decoder.parameters():
                parameter.mul_(scale if parameter.dim() > 1 else 1.0)
    columns = {
        "image": torch.rand(ROWS, 6, dtype=torch.float64),
        "label": torch.randint(4, (ROWS,)),
        "flag": torch.randint(2, (ROWS, 1)).double(),
    }
    present = torch.rand(ROWS, 3) < 0.6
    present[:, 0] |= ~present.any(1)
    return model, Table(columns, {name: present[:, i] for i, name in enumerate(NAMES)})


def losses(model: MVAE, table: Table, beta: float = 1.0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss with and without pseudo-labels for the same noise, and the gradient with them."""
    found = []
    for pseudo_labels in ((), model.pseudo_labels):
        model.pseudo_labels = pseudo_labels
        model.zero_grad()
        result = model(table, beta=beta, generator=torch.Generator().manual_seed(5))
        result.loss.backward()
        found.append(result.loss.detach())
    gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found[1], found[0], gradient


def test_confident_pseudo_labels_match_naive_loop() -> None:
    model, table = model_and_table()
    loss, without, gradient = losses(model, table)
    terms = model.terms(table.present)
    noise = torch.randn(
        len(terms.names), ROWS, LATENT, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )[terms.names.index("image")]
    extra, scored = torch.zeros((), dtype=torch.float64), 0
    for name, weight in (("label", 50.0), ("flag", 3.0)):
        modality, j = model.modalities[name], NAMES.index(name)
        missing = [r for r in range(ROWS) if table.present[r, 0] and not table.present[r, j]]
        share = SHARE / max(SHARE, len(missing) / ROWS)
        for r in missing:
            known = {n: torch.as_tensor(table.columns[n])[[r]] for i, n in enumerate(NAMES) if table.present[r, i]}
            with torch.no_grad():
                logits = modality.decode(model.posterior(known).mean)[0]
            sides = torch.cat([-logits, logits]) if name == "flag" else logits  # σ(−l), σ(l) are a softmax of 0 and l
            p = torch.sigmoid(sides) if name == "flag" else sides.softmax(0)
            if p.max() >= SURE:
                alone = model.posterior({"image": known["image"]})
                z = alone.mean + alone.variance.sqrt() * noise[r]
                guess = p.argmax()[None] if name == "label" else p.argmax().double()[None, None]
                extra, scored = extra + max(1.0, share * weight) * modality.log_prob(guess, z)[0], scored + 1
    assert 5 < scored < 35  # some predictions are confident, and some are not
    torch.testing.assert_close(loss, without - extra.detach() / ROWS, rtol=1e-12, atol=1e-10)
    # A decoder learns from its pseudo-label, but not through it: the pseudo-label is a constant.
    assert all(torch.isfinite(value).all() for value in gradient.values())


def test_gradient_treats_pseudo_labels_as_data() -> None:
    model, table = model_and_table(("label",))
    _, _, gradient = losses(model, table)
    model.pseudo_labels = ("label",)
    x = model.prepare(table)
    filled, terms = pseudo_labelled(model, x, model.terms(table.present), 1.0)
    model.pseudo_labels = ()
    model.zero_grad()
    shape = len(terms.names), ROWS, LATENT
    noise = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    model.objective(filled, terms, noise).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradient[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", ["annealing", "evaluated", "complete", "never confident", "only labels"])
def test_no_pseudo_labels_are_used(case: str) -> None:
    model, table = model_and_table()
    beta = 1.0
    if case == "annealing":
        beta = 0.99
    elif case == "evaluated":
        model.eval()
    elif case == "complete":
        table = Table(table.columns)
    elif case == "only labels":  # no modality could explain a pseudo-label
        table = Table({"label": table.columns["label"], "flag": table.columns["flag"]}, {"flag": table.present[:, 1]})
    else:
        for name in ("label", "flag"):
            for parameter in model.modalities[name].decoder.parameters():
                nn.init.zeros_(parameter)
    loss, without, _ = losses(model, table, beta)
    assert torch.equal(loss, without)


def test_missing_cells_do_not_affect_pseudo_labels() -> None:
    model, table = model_and_table()
    changed = dict(table.columns)
    changed["label"] = torch.where(table.present[:, 1], torch.as_tensor(table.columns["label"]), 3)
    changed["flag"] = torch.where(table.present[:, 2:], torch.as_tensor(table.columns["flag"]), 1.0)
    other = Table(changed, {name: table.present[:, i] for i, name in enumerate(NAMES)})
    assert torch.equal(losses(model, table)[0], losses(model, other)[0])


def test_missing_cells_may_contain_invalid_values() -> None:
    model, table = model_and_table()
    changed = dict(table.columns)
    changed["label"] = torch.where(table.present[:, 1], torch.as_tensor(table.columns["label"]), -1)
    changed["flag"] = torch.where(table.present[:, 2:], torch.as_tensor(table.columns["flag"]), torch.nan)
    other = Table(changed, {name: table.present[:, i] for i, name in enumerate(NAMES)})
    again, _ = model_and_table()
    assert torch.equal(losses(model, table)[0], losses(again, other)[0])
    for name in ("label", "flag"):
        assert torch.equal(balance_of(model, name).known, balance_of(again, name).known)


def test_prediction_ignores_augmentation_and_keeps_batch_statistics() -> None:
    model, table = model_and_table()
    norm = nn.BatchNorm1d(6).double()
    model.modalities["image"].encoder = nn.Sequential(norm, mlp(6, 2 * LATENT, (8,)).double())
    found = []
    for noise in (0.0, 1000.0):
        model.modalities["image"].augment = (Noise(noise),)
        before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        x, terms = pseudo_labelled(model, model.prepare(table), model.terms(table.present), 1.0)
        found.append((terms.of[terms.names.index("image")], x["label"]))
        assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    assert found[0][0].any()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert model.training
    assert all(module.training for module in model.modules())


def test_mode_with_log_prob_is_most_probable_value() -> None:
    model, _ = model_and_table()
    z = torch.randn(7, LATENT, dtype=torch.float64)
    for name, values in (
        ("label", torch.arange(4)[:, None]),
        ("flag", torch.tensor([0.0, 1.0]).double()[:, None, None]),
    ):
        modality = model.modalities[name]
        guess, log_p = modality.mode_with_log_prob(z)
        every = torch.stack([modality.log_prob(value.expand(7, *value.shape[1:]), z) for value in values])
        torch.testing.assert_close(log_p, every.max(0).values)
        torch.testing.assert_close(every.logsumexp(0).exp(), torch.ones(7).double())
        assert torch.equal(modality.log_prob(guess, z), log_p)


def test_pseudo_labels_need_a_source_and_discrete_values() -> None:
    model, _ = model_and_table()
    parts = dict(model.modalities)
    with pytest.raises(SettingsError, match="pseudo_labels names 'class'; the modalities are image, label, flag"):
        MVAE(parts, LATENT, cross_from=["image"], pseudo_labels=["class"])
    with pytest.raises(SettingsError, match="pseudo_labels needs cross_from"):
        MVAE(parts, LATENT, pseudo_labels=["label"], cross_from=())
    parts["height"] = Modality(mlp(1, 2 * LATENT), mlp(LATENT, 1), likelihoods.Gaussian())
    with pytest.raises(SettingsError, match="pseudo_labels names 'height': it is for classes"):
        MVAE(parts, LATENT, cross_from=["image"], pseudo_labels=["height"])


def test_pseudo_label_uses_all_observed_modalities() -> None:
    """The label of a row with image and flag is predicted from both."""
    model, table = model_and_table(("label",))
    x, _ = pseudo_labelled(model, model.prepare(table), model.terms(table.present), 1.0)
    row = int((table.present[:, 0] & ~table.present[:, 1] & table.present[:, 2]).nonzero()[0])
    experts = [model.expert(name, model.prepare(table)[name][[row]]) for name in ("image", "flag")]
    both = product(
        Gaussian(torch.stack([e.precision for e in experts]), torch.stack([e.shift for e in experts])),
        torch.ones(1, 1, 2, dtype=torch.bool),
    )
    assert int(x["label"][row]) == int(model.modalities["label"].decode(both.mean[0]).argmax())


def balance_of(model: MVAE, name: str) -> Balance:
    """The running means of a modality."""
    balance = model.balances[name]
    assert isinstance(balance, Balance)
    return balance


def test_balance_recovers_forgotten_class() -> None:
    """The decoder predicts the first of two equally frequent classes for all rows, less confidently for the second."""
    decoder = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        decoder.weight.copy_(torch.tensor([[1.0], [0.0]]))
    label = Modality(nn.Identity(), decoder, likelihoods.Categorical())
    balance = Balance(label, 1)
    z = torch.tensor([[9.0], [5.0]], dtype=torch.float64).repeat(20, 1)
    x, missing, begun = torch.tensor([0, 1]).repeat(20), torch.arange(40) < 20, torch.tensor(True)
    assert label.mode_with_log_prob(z)[0].tolist() == [0] * 40
    for _ in range(2000):
        balance(label, z, x, missing, begun)
    assert balance(label, z, x, missing, begun)[0].tolist() == [0, 1] * 20


@pytest.mark.parametrize("name", ["label", "flag"])
def test_balance_matches_naive_loop(name: str) -> None:
    model, _ = model_and_table()
    modality, balance = model.modalities[name], balance_of(model, name)
    generator = torch.Generator().manual_seed(3)
    known = guessed = torch.full((4,), 1 / 4).double() if name == "label" else torch.full((1,), 1 / 2).double()
    for step in range(20):
        z = torch.randn(9, LATENT, generator=generator, dtype=torch.float64)
        x = torch.randint(4, (9,), generator=generator) if name == "label" else z[:, :1].gt(1).double()
        missing = torch.rand(9, generator=generator) < 0.3
        rubbish = torch.where(missing.view(-1, *[1] * (x.dim() - 1)), torch.zeros_like(x), x)
        guess, log_p = balance(modality, z, rubbish, missing, torch.tensor(step != 5))
        logits = modality.decode(z)
        p = logits.softmax(1) if name == "label" else logits.sigmoid()
        if step != 5:  # at that step, pseudo-labels do not count yet
            known_before, guessed_before = known, guessed
            for row in range(9):
                if missing[row]:
                    guessed = guessed + STEP / 9 * (p[row] - guessed_before)
                else:
                    seen = torch.eye(4).double()[x[row]] if name == "label" else x[row]
                    known = known + STEP / 9 * (seen - known_before)
        yes, no = p * known / guessed, (1 - p) * (1 - known) / (1 - guessed)
        every = yes / yes.sum(1, keepdim=True) if name == "label" else torch.cat([no, yes], 1) / (yes + no)
        torch.testing.assert_close(balance.known, known)
        torch.testing.assert_close(balance.guessed, guessed)
        assert torch.equal(guess.flatten().long(), every.argmax(1))
        torch.testing.assert_close(log_p.exp(), every.max(1).values)


def test_balance_is_saved_and_strings_have_none() -> None:
    model, table = model_and_table()
    model(table, generator=torch.Generator().manual_seed(0))
    other, _ = model_and_table()
    other.load_state_dict(model.state_dict())
    guessed = balance_of(model, "label").guessed
    assert torch.equal(balance_of(other, "label").guessed, guessed)
    assert not torch.equal(guessed, torch.full((4,), 0.25).double())
    string = StringModality(StringEncoder(3, 2 * LATENT, 8), StringDecoder(3, LATENT, 8), symbols=3, length=2)
    image = Modality(mlp(6, 2 * LATENT), mlp(LATENT, 6), likelihoods.Bernoulli())
    written = MVAE({"image": image, "string": string}, LATENT, cross_from=["image"], pseudo_labels=["string"])
    assert len(written.balances) == 0
    table = Table({"image": torch.rand(9, 6), "string": torch.full((9, 2), 3)}, {"string": torch.arange(9) < 3})
    assert written(table).loss.isfinite()
