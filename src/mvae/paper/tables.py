"""`mvae reproduce table1 | table2 | table3 | table6 | table7`: train what is missing, evaluate, record, compare."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from mvae.models.base import MultimodalVAE
from mvae.models.jmvae import JMVAE
from mvae.models.telbo import TELBO
from mvae.paper.experiments import EXPERIMENTS, MODELS, build, defines, experiment
from mvae.paper.harness import BUDGETS, Job, Places, finished_run, measured, require
from mvae.paper.published import published
from mvae.paper.record import rows_of
from mvae.paper.results import Row
from mvae.paper.settings import Settings
from mvae.runs.run import evaluate

__all__ = ["PAPER_MODELS", "TABLES", "inference_parameters", "reproduce", "table1"]

PAPER_MODELS = ("vae", "cvae", "bivcca", "jmvae", "mvae_q", "mvae")
TABLES = ("table2", "table3", "table6", "table7")
OF_JOINT = ("table6", "table7")  # whose proposal is q(z | x1, x2)


def inference_parameters(model: MultimodalVAE) -> int:
    """The number of weights of everything that makes a posterior (Table 1).

    >>> from mvae.paper.experiments import build, experiment
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
    """Counted and published parameters, a dict for each model and dataset; for CelebA also those of 19 modalities."""
    rows = []
    for dataset in datasets:
        asked = _defined(dataset, models)
        counted = {model: inference_parameters(build(experiment(dataset), model=model)) for model in asked}
        rows += [
            {"dataset": dataset, "model": model, "value": value, "paper": published("table1", model, dataset)}
            for model, value in counted.items()
        ]
        if dataset == "celeba":
            rows += [
                {"dataset": dataset, "model": name, "value": value, "paper": published("table1", name[:-2], dataset)}
                | {"note": note}
                for name, value, note in _nineteen_modalities()
            ]
    return rows


def _nineteen_modalities() -> list[tuple[str, int, str]]:
    """(model, parameters, how it was counted) of CelebA with 19 modalities.

    The published MVAE19 is an image's encoder and eighteen that take all 18 attributes; ours take the one that they are
    of. JMVAE19 would need a joint encoder for each subset of the 19 modalities. Sec. 4 does not print its architecture,
    so we assume: the modalities' own encoders without their heads (image → 512, 18 → 512 → 512), concatenated, → 512,
    heads. Summed over all 2^19 subsets, each modality is in half of them.
    """
    together = build(experiment("celeba")).modalities
    image, attributes = (sum(p.numel() for p in m.encoder.parameters()) for m in together.values())
    heads = sum(p.numel() for p in list(together["attributes"].encoder.parameters())[-2:])
    hidden, half = 512, 2**18
    joint = half * (image - heads + 18 * (attributes - heads) + 19 * hidden**2) + 2 * half * (hidden + heads)
    return [
        ("mvae19 a", image + 18 * attributes, "eighteen encoders of all 18 attributes, as published"),
        ("mvae19 b", inference_parameters(build(experiment("celeba19"))), "encoders of one attribute each, as trained"),
        ("jmvae19 a", joint, "assumed: 2^19 joint encoders, each image → 512, 18 → 512 → 512, 512·n → 512, heads"),
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
    workers: int = 1,
    places: Places | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of a table for these models at this budget, after making those that are missing.

    ``workers`` runs go at once; each is recorded when it has been evaluated.

    A run is trained once, and an unfinished one resumed. Tables 2 and 3 come from one evaluation (proposal q(z | x1)),
    Tables 6 and 7 from another (q(z | x1, x2), which not every model has): asking for the other one costs nothing.

    Raises:
        SettingsError: an unknown item, dataset, model, recipe or budget.
    """
    require("table", [item], TABLES)
    require("dataset", datasets, EXPERIMENTS)
    require("model", models, MODELS)
    require("budget", [budget], BUDGETS)
    wanted = []
    for dataset in datasets:
        training = BUDGETS[budget].training(experiment(dataset))
        for model in _defined(dataset, models):
            for recipe in recipes if model == "mvae" else ("paper",):
                wanted += [Settings.of(dataset, recipe, seed, model, **training) for seed in range(seeds)]
    if item in OF_JOINT:
        wanted = [settings for settings in wanted if _has_joint(settings)]
    return measured(item, wanted, partial(_measure, item in OF_JOINT), budget, workers, places or Places())


def _has_joint(settings: Settings) -> bool:
    """Is there a posterior of x1 and x2 together?"""
    model = settings.build()
    return model.joint_posterior and len(model.names) > 1


def _measure(joint: bool, job: Job) -> list[Row]:
    """Train where needed, and evaluate with proposal q(z | x1), or q(z | x1, x2)."""
    settings, run, spend = job.settings, finished_run(job.settings, job.places), BUDGETS[job.budget]
    command = (
        f"mvae reproduce {'table6' if joint else 'table2'} --datasets {settings.dataset} --models {settings.model} "
        f"--recipes {settings.recipe} --seeds {settings.seed + 1} --budget {job.budget}"
    )
    names = run.splits.test.names
    proposal = names if joint else names[:1]
    rows = spend.rows(experiment(settings.dataset))
    found = evaluate(run, rows=rows, samples=spend.samples, proposal=proposal, seed=settings.seed)
    return rows_of(run, found, job.budget, command)
