"""`mvae reproduce mfeat`: a digit's class and any of its six feature sets predicted from any others.

UCI Multiple Features: 2,000 digits as Fourier coefficients (fou), profile correlations (fac), Karhunen-Loève
coefficients (kar), pixel averages (pix), Zernike moments (zer) and morphological features (mor). One model of seven
modalities answers for every subset of views; the baseline, logistic regression, is trained anew for each subset.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import mvae
from mvae.errors import DataError
from mvae.likelihoods import Categorical, Gaussian
from mvae.paper.item import Budget, Item, Levels, Options, Paths
from mvae.paper.results import RowDict
from mvae.studies.study import Study, found_folder, perceptron, show_table

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
SOURCE = "UCI's Multiple Features (one mfeat-VIEW.csv per view: a header, numbers, the label last)"
TEST = 500
METRICS = (*VIEWS, "all", "1 missing", "3 missing", "minutes")  # shown
KEPT = Levels("keep", "shares of training views kept", "1,0.5")
LATENTS = 32

Views = dict[str, np.ndarray]


class Split(NamedTuple):
    """Training rows and test rows, each with its labels."""

    train: Views
    labels: np.ndarray
    test: Views
    truth: np.ndarray


@dataclass(frozen=True)
class Spending:
    """Training and sizes at a budget."""

    epochs: int = 150
    hidden: int = 256
    dropout: float = 0.4
    label_weight: float = 50.0


SPENT = {"smoke": Spending(3, 16), "laptop": Spending()}
BUDGETS = {
    "smoke": Budget("drawn views, 3 epochs: does it run?", levels=(1.0,)),
    "laptop": Budget("the whole study", levels=(1.0, 0.5)),
}


def read_views(data_dir: str | Path | None = None) -> tuple[Views, np.ndarray]:
    """The six views and the labels.

    Raises:
        DataError: a file is absent, or the files' labels differ.
    """
    folder = found_folder(data_dir, "mfeat", "mfeat-fou.csv", SOURCE)
    try:
        found = {view: np.loadtxt(folder / f"mfeat-{view}.csv", delimiter=",", skiprows=1) for view in VIEWS}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {folder} ({error}): get the files from {SOURCE}") from None
    labels = found["fou"][:, -1].astype(np.int64)
    for view, values in found.items():
        if values.shape[0] != len(labels) or (values[:, -1] != labels).any():
            raise DataError(f"{folder}/mfeat-{view}.csv is not aligned with mfeat-fou.csv: replace it")
    return {view: values[:, :-1].astype(np.float32) for view, values in found.items()}, labels


def drawn_views() -> tuple[Views, np.ndarray]:
    """Synthetic views of 120 rows of three classes, which need no download."""
    random, rows = np.random.default_rng(0), 120
    labels = random.integers(0, 3, rows)
    views = {view: random.normal(0, 2, (3, 4))[labels] + random.normal(0, 1, (rows, 4)) for view in VIEWS}
    return {view: values.astype(np.float32) for view, values in views.items()}, labels


def trained(views: Views, labels: np.ndarray, keep: float, seed: int, spending: Spending) -> "mvae.MVAE":
    """Train the model on these rows, in which each view is kept with probability ``keep``."""
    torch.manual_seed(seed)
    classes, hidden = int(labels.max()) + 1, spending.hidden
    parts = {
        view: mvae.Modality(
            perceptron(x.shape[1], 2 * LATENTS, hidden, spending.dropout),
            perceptron(LATENTS, x.shape[1], hidden),
            Gaussian(0.5, learned=True),
            weight=10 / x.shape[1],
        )
        for view, x in views.items()
    }
    label_encoder = nn.Sequential(nn.Embedding(classes, 2 * LATENTS))
    label = mvae.Modality(label_encoder, nn.Linear(LATENTS, classes), Categorical(), weight=spending.label_weight)
    model = mvae.MVAE(parts | {"label": label}, LATENTS, random_subsets=3, cross_from=VIEWS, cross_share=1.0)
    here = np.random.default_rng(seed).random((len(labels), len(VIEWS))) < keep
    table = mvae.Table(
        {**views, "label": labels}, present={view: here[:, i] for i, view in enumerate(VIEWS)} if keep < 1 else None
    )
    how = {"batch_size": 100, "learning_rate": 2e-3, "optimizer": "adamw", "decay_epochs": spending.epochs // 2}
    mvae.fit(model, table, epochs=spending.epochs, seed=seed, callbacks=[], **how)
    return model


def accuracies(right: Mapping[tuple[str, ...], float]) -> dict[str, float]:
    """The accuracies given each view and all views, and their means over subsets by the number of missing views."""
    found = {view: right[(view,)] for view in VIEWS} | {"all": right[VIEWS]}
    for missing in range(1, len(VIEWS)):
        found[f"{missing} missing"] = float(np.mean([v for s, v in right.items() if len(s) == len(VIEWS) - missing]))
    return found


def subsets() -> list[tuple[str, ...]]:
    """Every non-empty subset of the views."""
    return [s for size in range(1, len(VIEWS) + 1) for s in itertools.combinations(VIEWS, size)]


def of_model(split: Split, keep: float, seed: int, spending: Spending) -> dict[str, float]:
    """Accuracies of the label from the subsets, R² of each view from the five others, averaged, and training time."""
    begun = time.process_time()
    model = trained(split.train, split.labels, keep, seed, spending)
    minutes, views, right = (time.process_time() - begun) / 60, split.test, {}
    for s in subsets():
        label = model.predict({v: views[v] for v in s}, of="label", n=20).argmax(-1).numpy()
        right[s] = float((label == split.truth).mean())
    r2 = []
    for view in VIEWS:
        guess = model.predict({v: x for v, x in views.items() if v != view}, of=view).numpy()
        r2.append(1 - ((guess - views[view]) ** 2).sum() / ((views[view] - views[view].mean(0)) ** 2).sum())
    return accuracies(right) | {"views": float(np.mean(r2)), "minutes": minutes}


def of_regression(split: Split) -> dict[str, float]:
    """Accuracies of a logistic regression trained on each subset."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = {}
    for s in subsets():
        x, y = (np.concatenate([part[v] for v in s], 1) for part in (split.train, split.test))
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, split.labels)
        right[s] = float((fitted.predict(y) == split.truth).mean())
    return accuracies(right)


def _made(item: str, options: Options, paths: Paths) -> Sequence[RowDict]:
    smoke, spending = options.budget == "smoke", SPENT[options.budget]
    views, labels = drawn_views() if smoke else read_views(paths.data_dir)
    rows: list[RowDict] = []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        held, own = np.split(order, [min(TEST, len(order) // 4)])
        train, test = ({view: x[part] for view, x in views.items()} for part in (own, held))
        split = Split(train, labels[own], test, labels[held])
        study = Study(item, "drawn views" if smoke else "mfeat", options.budget, seed, paths.results)
        rows += study.rows("logistic regression", len(held), partial(of_regression, split))
        for keep in map(float, options.levels):
            at = replace(study, settings=asdict(spending) | {"keep": keep})
            name = "mvae" if keep == 1 else f"mvae, {keep:.0%} of the training views"
            rows += at.rows(name, len(held), partial(of_model, split, keep, seed, spending))
    return rows


MFEAT = Item(
    "mfeat",
    "the class of a digit and each of six views from any others, compared with logistic regression",
    takes=("levels", "seeds", "budget"),
    show=partial(show_table, columns=METRICS),
    needs="UCI's Multiple Features, by --data-dir or MVAE_DATA (smoke: nothing)",
    levels=KEPT,
    budgets=BUDGETS,
    make=_made,
)
