"""`mvae reproduce cite-seq`: surface proteins of cells predicted from their RNA, compared with other methods.

Four fifths of the cells are for training; the proteins of the others are hidden, and predicted from their raw RNA
counts. Metrics are of log1p counts, averaged over proteins. The model's sizes were chosen on a fifth of the training
cells of seed 0; ``--budget selection`` measures that again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mvae
from mvae.paper.item import Budget, Item, Levels, Options, Paths
from mvae.paper.results import RowDict
from mvae.report.figure import require_figures, saved_figure
from mvae.studies import totalvi
from mvae.studies.cite_seq_cells import (
    Cells,
    Sizes,
    drawn_cells,
    log_normalised,
    metrics_of,
    model_of,
    read_cells,
    variable_genes,
)
from mvae.studies.study import Study, show_table

DRAWS = 100
WIDER = 1.25  # scales protein draws around their mean: 90 % intervals then cover 90 % of the validation cells' counts
PEER = f"totalVI, {totalvi.EPOCHS} epochs"
SHOWN = ("CD3", "CD14", "CD19", "CD4", "CD8a")
METRICS = ("Pearson", "Spearman", "RMSLE", "coverage of 90 %", "minutes")  # shown
PRESENT = Levels("present", "shares of training cells with proteins", "1,0.05")
SMOKE = Sizes(genes=40, components=5, latents=4, hidden=16, epochs=3)

#: Budget → what it spends.
BUDGETS = {
    "smoke": Budget("drawn cells, 3 epochs: does it run?", levels=(1.0,)),
    "selection": Budget("a fifth of the training cells is predicted from the others", levels=(1.0,)),
    "laptop": Budget("the whole study, minutes per seed", levels=(1.0, 0.2, 0.05, 0.01)),
}


def predicted(model: "mvae.MVAE", given: Mapping[str, torch.Tensor]) -> tuple[np.ndarray, ...]:
    """E[log1p protein | RNA] of every cell, and draws of its counts, ``draws cells proteins``."""
    drawn = model.generate(dict(given), of=["protein"], n=DRAWS, seed=0)["protein"].double().numpy()
    mean = drawn.mean(0)
    return mean, np.round(np.expm1(np.maximum(mean + WIDER * (drawn - mean), 0)))


def learned(
    train: Cells, sizes: Sizes, seed: int, present: float = 1.0
) -> tuple["mvae.MVAE", np.ndarray, dict[str, float]]:
    """Train on these cells, a share of which has proteins; return the model, its genes and its training time."""
    begun = time.process_time()
    genes = variable_genes(train.rna, sizes.genes)
    torch.manual_seed(seed)
    model = model_of(train.rna[:, genes], len(train.proteins), sizes)
    has = torch.from_numpy(np.random.default_rng(seed).random(len(train.rna)) < present)
    has[:2] = True
    table = mvae.Table(train.columns(genes), present={"protein": has})
    how = {"batch_size": 128, "learning_rate": 2e-3, "optimizer": "adamw", "decay_epochs": sizes.epochs // 2}
    mvae.fit(model, table, epochs=sizes.epochs, seed=seed, callbacks=[], **how)
    return model, genes, {"minutes": (time.process_time() - begun) / 60}


def measured(model: "mvae.MVAE", genes: np.ndarray, test: Cells) -> dict[str, float]:
    """Metrics of the predictions for all test cells, and mean log-likelihoods of the first 200 of them."""
    columns = test.columns(genes)
    mean, draws = predicted(model, {"rna": columns["rna"]})
    found = metrics_of(test.protein, mean, draws)
    some = {name: column[:200] for name, column in columns.items()}
    given = mvae.log_likelihood(model, some, of=["protein"], given=["rna"], samples=200).values
    of_counts = given - some["protein"].sum(1)  # turns the density of log1p y into one of y
    rna = mvae.log_likelihood(model, {"rna": some["rna"]}, of=["rna"], samples=200).mean
    return found | {"log p(protein|rna)": float(of_counts.mean()), "log p(rna)": rna}


def baselines() -> dict[str, Callable[[np.ndarray, np.ndarray], Any]]:
    """The baselines: functions of features and targets that return a fitted regressor."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline

    def components() -> Any:
        return PCA(50, svd_solver="randomized", random_state=0)

    kernel = KernelRidge(kernel="rbf", gamma=0.004, alpha=0.1)  # pyright: ignore[reportArgumentType]
    trees = ExtraTreesRegressor(100, min_samples_leaf=3, max_features=0.5, random_state=0)
    return {
        "ridge, all genes": Ridge(3000.0).fit,
        "30 neighbours, 50 components": make_pipeline(components(), KNeighborsRegressor(30, weights="distance")).fit,
        "kernel ridge, 50 components": make_pipeline(components(), kernel).fit,
        "extra trees, 50 components": make_pipeline(components(), trees).fit,
    }


def of_baseline(fit: Callable[[np.ndarray, np.ndarray], Any], train: Cells, test: Cells) -> dict[str, float]:
    """A baseline's metrics on the test cells, from log-normalised RNA and the log of its total."""
    x = [np.c_[log_normalised(cells.rna), _log_total(cells.rna)] for cells in (train, test)]
    y = np.log1p(train.protein)
    begun = time.process_time()
    prediction = fit(x[0], y - y.mean(0)).predict(x[1]) + y.mean(0)
    return metrics_of(test.protein, prediction) | {"minutes": (time.process_time() - begun) / 60}


def _log_total(rna: np.ndarray) -> np.ndarray:
    total = np.log(np.maximum(rna.sum(1), 1))
    return (total - total.mean()) / total.std()


def _made(item: str, options: Options, paths: Paths) -> Sequence[RowDict]:
    smoke = options.budget == "smoke"
    cells = drawn_cells() if smoke else read_cells(paths.data_dir)
    rows: list[RowDict] = []
    for seed in range(options.seeds):
        train, test = cells.split(seed)
        if options.budget == "selection":
            train, test = train.split(seed)
        study = Study(item, "drawn cells" if smoke else "pbmc10k", options.budget, seed, paths.results)
        for name, fit in baselines().items():
            rows += study.rows(name, len(test.rna), partial(of_baseline, fit, train, test))
        if options.budget == "laptop" and totalvi.is_installed():
            rows += study.rows(PEER, len(test.rna), partial(totalvi.of_totalvi, train, test, seed))
        for level in options.levels:
            rows += _rows_of_level(study, train, test, float(level), SMOKE if smoke else Sizes())
    return rows


def _rows_of_level(study: Study, train: Cells, test: Cells, level: float, sizes: Sizes) -> Sequence[RowDict]:
    name = "mvae" if level == 1 else f"mvae, proteins of {level:.0%} of the cells"
    at = replace(study, settings=asdict(sizes) | {"present": level})
    if found := at.recorded(name):
        return found
    if drawn := level == 1 and study.seed == 0:
        require_figures()
    model, genes, spent = learned(train, sizes, study.seed, level)
    if drawn:
        draw_latents(model, genes, test, study.results / f"{study.item}-latents-{study.budget}.png")
    return at.record(name, measured(model, genes, test) | spent, len(test.rna))


def draw_latents(model: "mvae.MVAE", genes: np.ndarray, test: Cells, path: Path) -> None:
    """Draw a t-SNE of the test cells' latents, given RNA alone, coloured by the true counts of some proteins."""
    from sklearn.manifold import TSNE

    latents = model.posterior({"rna": test.columns(genes)["rna"]}).mean.numpy()
    place = TSNE(2, perplexity=min(30, len(latents) // 4), init="pca", random_state=0).fit_transform(latents)
    shown = [name for name in SHOWN if name in test.proteins] or list(test.proteins[:5])
    with saved_figure(path, figsize=(3 * len(shown), 3)) as figure:
        for panel, name in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
            colour = np.log1p(test.protein[:, test.proteins.index(name)])
            panel.scatter(*place.T, c=colour, s=2, cmap="viridis")
            panel.set_title(name)
            panel.axis("off")


CITE_SEQ = Item(
    "cite-seq",
    "proteins of cells predicted from RNA, compared with kernel ridge, extra trees and others",
    takes=("levels", "seeds", "budget"),
    show=partial(show_table, columns=METRICS),
    needs="pbmc10k.npz of the totalVI study, by --data-dir or MVAE_DATA (smoke: nothing)",
    levels=PRESENT,
    budgets=BUDGETS,
    make=_made,
)
