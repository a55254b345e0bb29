"""The contents of missing cells do not affect the result of any public function that takes a table."""

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mvae
from mvae import likelihoods
from mvae.data.blocks import order_of_rows
from mvae.data.dataset import Dataset
from mvae.data.fingerprint import fingerprint
from mvae.data.masking import complete_rows, keep_at_random, oversample_complete
from mvae.data.split import split
from mvae.data.table import Table
from mvae.data.tables.tensors import observed_of
from mvae.evaluation import coherence
from mvae.evaluation.coherence import classifier_for, conditional_coherence, train_classifier
from mvae.evaluation.coupling_warnings import pairs_never_seen
from mvae.evaluation.frechet import frechet_to_data
from mvae.evaluation.images import nearest_rows, training_mean
from mvae.evaluation.impute import impute, imputed_parts
from mvae.evaluation.likelihood import log_likelihood, log_likelihoods
from mvae.evaluation.prediction import prediction_accuracy
from mvae.evaluation.proposal import log_joint, weighted_samples
from mvae.evaluation.representation import linear_accuracy_by_number
from mvae.evaluation.rows import labels_of, latent_means, rows_with
from mvae.evaluation.spread import spread_labels
from mvae.evaluation.subsets import coherence_by_number
from mvae.evaluation.text import source_gap
from mvae.evaluation.validation import validate
from mvae.likelihoods import Categorical
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.fitting import fit_prior
from mvae.models.inputs import Inputs
from mvae.models.mopoe import MoPoE
from mvae.models.mvae import MVAE
from mvae.models.queries import Queries, parts_of
from mvae.networks.mlp import LabelEncoder, mlp
from mvae.training.fit import fit
from mvae.training.randomness import row_order

ROWS = 24
PACKAGES = ("data", "evaluation", "models", "training")  # the packages above these take runs
FILLS = {  # for floats, class numbers and bytes: zeros, NaN, an invalid class, too large numbers, and garbage
    "zeros": (0.0, 0, 0),
    "NaN": (math.nan, -1, 255),
    "minus one": (-1.0, -1, 137),
    "huge": (1e30, 2**62, 1),
    "garbage": (torch.finfo(torch.float32).tiny / 3, -(2**63), 254),
}

# Functions that pass cells on unchanged with their mask, and functions called with a batch that another function here
# made.
PASSED_ON = {
    "Inputs.prepare", "CVAE.prepare", "CVAE.check", "Instruments.add", "given_part", "arrays_of",
}  # fmt: skip
IN_FIT = {"Inputs.fit_scalings", "CVAE.fit_scalings"}
OF_COMPLETE_ROWS = {"pair_fraction"}  # refuses incomplete rows
OF_A_STEP = {"compiled", "way_of"}


def table(fill: str) -> Table:
    """Images, labels and numbers with a fifth of the cells missing; rows 0 to 5 are complete."""
    generator, row = torch.Generator().manual_seed(0), torch.arange(ROWS)
    columns = {
        "image": torch.randint(2, 250, (ROWS, 1, 8, 8), generator=generator, dtype=torch.uint8),
        "label": torch.randint(0, 3, (ROWS,), generator=generator),
        "number": torch.randn(ROWS, 2, generator=generator),
    }
    missing = torch.where(row < 6, 9, row % 4)
    present = {name: missing != i for i, name in enumerate(columns)}
    number, label, byte = FILLS[fill]
    for name, value in (("number", number), ("label", label), ("image", byte)):
        columns[name][~present[name]] = value
    return Table(columns, present)


def model() -> MVAE:
    torch.manual_seed(0)
    return MVAE(
        {
            "image": Modality(mlp(64, 4, [5]), mlp(2, 64, [5]), likelihoods.Bernoulli(levels=255)),
            "label": Modality(LabelEncoder(3, 4, 5), mlp(2, 3, [5]), Categorical()),
            "number": Modality(nn.Linear(2, 4), nn.Linear(2, 2), likelihoods.Gaussian()),
        },
        2,
        random_subsets=1,
    )


def dataset(data: Table) -> Dataset:
    return Dataset("small", data, data, data)


def fitted(data: Table) -> dict[str, Any]:
    learned = model()
    history = fit(learned, data, epochs=2, batch_size=10, validation=data, callbacks=[])
    numbers = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs]
    return {"numbers": numbers, "weights": dict(learned.state_dict())}


def kept_classifier(data: Table, folder: Path) -> Any:
    return classifier_for(dataset(data), "image", "label", Categorical(), folder / f"{id(data)}.safetensors")[1]


def spread_to(data: Table) -> tuple[Tensor, Tensor]:
    """Which rows have a label after spreading, and those labels; half of the known labels are hidden before."""
    known = data.has("label") & (torch.arange(ROWS) % 2 == 0)
    few = Table(data.columns, {name: data.has(name) for name in ("image", "number")} | {"label": known})
    few = few.take(few.present[:, [0, 2]].any(1))
    found = spread_labels(model(), few, "label", neighbours=3)
    return found.has("label"), found.select_rows("label", found.has("label").nonzero().flatten())


def weights_of(data: Table) -> tuple[Tensor, Tensor]:
    net = model()
    q = net.posterior(data)
    noise = torch.randn(60, *q.mean.shape, generator=torch.Generator().manual_seed(0))
    return weighted_samples(net, data, net.prepare(data), q, noise)


def joint_of(data: Table) -> Tensor:
    net = model()
    return log_joint(net, data, net.prepare(data), torch.zeros(3, len(data), 2))


CLASSIFIER = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

CLASSES = torch.arange(ROWS) % 3  # the classes of the rows, known separately from the table

CALLS: dict[Callable[..., Any], Callable[[Table, Path], Any]] = {
    complete_rows: lambda t, _: [complete_rows(t), complete_rows(t, ["image", "number"])],
    keep_at_random: lambda t, _: keep_at_random(t, 0.7),
    oversample_complete: lambda t, _: [oversample_complete(t, 2), oversample_complete(t, 2, ["image", "number"])],
    fingerprint: lambda t, _: fingerprint(t, t.names),
    split: lambda t, _: vars(split(t, 0.2, 0.2)),
    conditional_coherence: lambda t, _: conditional_coherence(model(), CLASSIFIER, t, given="label", of="image"),
    classifier_for: kept_classifier,
    train_classifier: lambda t, _: train_classifier(dataset(t), "image", "label", Categorical())[1],
    observed_of: lambda t, _: observed_of(t, "number").tolist(),
    pairs_never_seen: lambda t, _: str(pairs_never_seen(t)),
    nearest_rows: lambda t, _: nearest_rows(torch.rand(3, 1, 8, 8), t, "image", "number"),
    training_mean: lambda t, _: training_mean(t, "image"),
    spread_labels: lambda t, _: spread_to(t),
    latent_means: lambda t, _: latent_means(model(), t, rows_with(t, ["image", "number"]), ["image"]),
    rows_with: lambda t, _: rows_with(t, ["image", "number"]),
    labels_of: lambda t, _: labels_of(t, CLASSES),
    impute: lambda t, _: vars(impute(model(), t, draws=3, samples=20)),
    imputed_parts: lambda t, _: [vars(part) for part in imputed_parts(model(), t, draws=3, samples=20)],
    log_joint: lambda t, _: joint_of(t),
    weighted_samples: lambda t, _: weights_of(t),
    log_likelihood: lambda t, _: vars(log_likelihood(model(), t, ["image"], ["label"], samples=30)),
    log_likelihoods: lambda t, _: vars(log_likelihoods(model(), t, {"a": (["label"], ["number"])}, samples=30)["a"]),
    prediction_accuracy: lambda t, _: vars(prediction_accuracy(model(), t, ["image", "number"], "label")[""]),
    source_gap: lambda t, _: source_gap(model(), t, "image", "number"),
    validate: lambda t, _: validate(model(), t),
    parts_of: lambda t, _: list(parts_of(t)),
    coherence_by_number: lambda t, _: vars(coherence_by_number(model(), {"image": CLASSIFIER}, t, CLASSES)),
    frechet_to_data: lambda t, _: frechet_to_data(model(), nn.Flatten(), t, "image", ["number"]),
    linear_accuracy_by_number: lambda t, _: linear_accuracy_by_number(model(), (t, CLASSES), (t, CLASSES)),
    fit_prior: lambda t, _: fit_prior(model(), t, components=2).state()[0],
    fit: lambda t, _: fitted(t),
    order_of_rows: lambda t, _: order_of_rows(t, torch.Generator().manual_seed(0)),
    row_order: lambda t, _: row_order(t, seed=0, epoch=0),
    MultimodalVAE.forward: lambda t, _: model()(t, generator=torch.Generator().manual_seed(0)).sums(),
    MultimodalVAE.batch_objective: lambda t, _: (
        model().batch_objective(t, generator=torch.Generator().manual_seed(0)).sums()
    ),
    MultimodalVAE.has_posterior: lambda t, _: model().has_posterior(t, ["label", "number"]),
    MultimodalVAE.presence: lambda t, _: model().presence(t),
    MoPoE.presence: lambda t, _: MoPoE(dict(model().modalities.items()), 2, drawn=1).presence(t),
    Inputs.as_table: lambda t, _: model().as_table(t),
    Inputs.require_trained_in: lambda t, _: model().require_trained_in(t),
    Inputs.check: lambda t, _: model().check(t),
    Queries.generate: lambda t, _: model().generate(t, n=3, seed=0),
    Queries.log_likelihood: lambda t, _: vars(model().log_likelihood(t, ["number"], samples=30)),
    Queries.posterior: lambda t, _: vars(model().posterior(t)),
    Queries.posterior_of: lambda t, _: vars(model().posterior_of(t, ["label", "number"])),
    Queries.predict: lambda t, _: [model().predict(t, of, n) for of in t.names for n in (None, 3)],
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function and method of these packages that takes a table or a dataset."""
    for info in pkgutil.walk_packages(mvae.__path__, "mvae."):
        if info.name.split(".")[1] not in PACKAGES:
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if getattr(value, "__module__", None) != info.name:
                continue
            found = [value] if inspect.isfunction(value) else []
            if inspect.isclass(value) and not issubclass(value, Table | Dataset):
                found = [f for f in vars(value).values() if inspect.isfunction(f) and not f.__name__.startswith("_")]
            yield from ((f.__qualname__, f) for f in found if takes_a_table(f))


def takes_a_table(function: Callable[..., Any]) -> bool:
    annotations = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
    return any(re.search(r"\bTable\b", text) or "data.dataset.Dataset" in text for text in annotations)


FOUND = dict(public())


def test_calls_cover_every_function_that_takes_a_table() -> None:
    called = {function.__qualname__ for function in CALLS}
    assert set(FOUND) - PASSED_ON - IN_FIT - OF_COMPLETE_ROWS - OF_A_STEP == called, (
        "add a call of the new function to CALLS"
    )


def assert_equal(one: Any, other: Any) -> None:
    """Check for bit-identical values; for tables, only of the cells that are present."""
    assert type(one) is type(other)
    if isinstance(one, Table):
        assert torch.equal(one.present, other.present)
        for name in one.names:
            has = one.has(name)
            assert torch.equal(torch.as_tensor(one.columns[name])[has], torch.as_tensor(other.columns[name])[has])
    elif isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__qualname__)
def test_missing_cells_have_no_influence(
    function: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coherence, "STEPS", 20)  # a classifier is trained for each table
    torch.manual_seed(0)
    expected = CALLS[function](table("zeros"), tmp_path)
    for fill in FILLS:
        torch.manual_seed(0)
        assert_equal(CALLS[function](table(fill), tmp_path), expected)


def test_accuracy_counts_only_labelled_rows() -> None:
    """A perfect model on 400 rows, 100 of them with a label: 1.0, whatever the other 300 cells contain."""

    class SignEncoder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([20 * x, torch.full_like(x, -9.0)], 1)

    class SignDecoder(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([-z, z], 1)

    torch.manual_seed(0)
    x = torch.randn(400, 1)
    label, has = (x[:, 0] > 0).long(), torch.arange(400) % 4 == 0
    parts = {
        "x": Modality(SignEncoder(), nn.Linear(1, 1), likelihoods.Gaussian()),
        "label": Modality(LabelEncoder(2, 2, 4), SignDecoder(), Categorical()),
    }
    for cell in (0, -1, 7):
        data = Table({"x": x, "label": torch.where(has, label, cell)}, {"label": has})
        found = prediction_accuracy(MVAE(parts, 1), data, ["x"], "label")[""]
        assert (found.mean, len(found.right)) == (1.0, 100)
