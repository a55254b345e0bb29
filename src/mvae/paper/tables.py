"""`mvae reproduce table1 | table2 | table3 | table6 | table7`: train what is missing, evaluate, record, compare."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mvae.experiments import EXPERIMENTS, MODELS, build, defines, experiment
from mvae.models.base import MultimodalVAE
from mvae.models.jmvae import JMVAE
from mvae.models.telbo import TELBO
from mvae.paper.harness import BUDGETS, Places, finished_run, recorded, require
from mvae.paper.published import published
from mvae.paper.record import record
from mvae.runs import Settings, evaluate

__all__ = ["PAPER_MODELS", "inference_parameters", "reproduce", "table1"]

PAPER_MODELS = ("vae", "cvae", "bivcca", "jmvae", "mvae_q", "mvae")
TABLES = ("table2", "table3", "table6", "table7")  # all from the same evaluations


def inference_parameters(model: MultimodalVAE) -> int:
    """The number of weights of everything that makes a posterior (Table 1).

    >>> from mvae.experiments import build, experiment
    >>> inference_parameters(build(experiment("mnist"), model="jmvae"))
    2061184
    """
    networks: list[nn.Module] = [modality.encoder for modality in model.modalities.values()]
    if isinstance(model, JMVAE):
        networks.append(model.joint_encoder)
    if isinstance(model, TELBO):
        networks.append(model.unimodal)
    return sum(p.numel() for network in networks for p in network.parameters())


def table1(datasets: Sequence[str] = ("mnist",), models: Sequence[str] = PAPER_MODELS) -> list[dict[str, Any]]:
    """Counted and published parameters, a dict for each model and dataset."""
    return [
        {
            "dataset": dataset,
            "model": model,
            "value": inference_parameters(build(experiment(dataset), model=model)),
            "paper": published("table1", model, dataset),
        }
        for dataset in datasets
        for model in _defined(dataset, models)
    ]


def _defined(dataset: str, models: Sequence[str]) -> Sequence[str]:
    """Those that the paper has for the dataset; where it has none of them, all, for the error that says so."""
    return [model for model in models if defines(experiment(dataset), model)] or models


def reproduce(
    item: str,
    *,
    datasets: Sequence[str] = ("mnist",),
    models: Sequence[str] = PAPER_MODELS,
    recipes: Sequence[str] = ("paper", "coupled"),
    seeds: int = 1,
    budget: str = "laptop",
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of a table for these models at this budget, after making those that are missing.

    A run is trained once, and an unfinished one resumed. All four tables come from the same evaluations, so asking for
    another one afterwards costs nothing.

    Raises:
        SettingsError: an unknown item, dataset, model, recipe or budget.
    """
    require("table", [item], TABLES)
    require("dataset", datasets, EXPERIMENTS)
    require("model", models, MODELS)
    require("budget", [budget], BUDGETS)
    places = places or Places()
    found = []
    for dataset in datasets:
        for model in _defined(dataset, models):
            for recipe in recipes if model == "mvae" else ("paper",):
                for seed in range(seeds):
                    training = BUDGETS[budget].training(experiment(dataset))
                    settings = Settings.of(dataset, recipe, seed, model, **training)
                    if not recorded(places.results, TABLES, settings, budget):
                        _make(settings, budget, places)
                    found += recorded(places.results, [item], settings, budget)
    return found


def _make(settings: Settings, budget: str, places: Places) -> None:
    """Train where needed, and record an evaluation for each proposal that the model has."""
    run, spend = finished_run(settings, places), BUDGETS[budget]
    command = (
        f"mvae reproduce table2 --datasets {settings.dataset} --models {settings.model} --recipes {settings.recipe} "
        f"--seeds {settings.seed + 1} --budget {budget}"
    )
    names = run.splits.test.names
    proposals = [names[:1]]
    if run.model.joint_posterior and len(run.model.names) > 1:
        proposals.append(names)
    for proposal in proposals:
        found = evaluate(run, rows=spend.rows, samples=spend.samples, proposal=proposal, seed=settings.seed)
        record(run, found, places.results, budget, command)
