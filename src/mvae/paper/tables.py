"""`mvae reproduce table1 | table2 | table3 | table6 | table7`: train what is missing, evaluate, record, compare."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mvae.checkpoint import CHECKPOINT, load_state
from mvae.errors import SettingsError
from mvae.experiments import EXPERIMENTS, MODELS, build, experiment
from mvae.models.base import MultimodalVAE
from mvae.models.jmvae import JMVAE
from mvae.models.telbo import TELBO
from mvae.paper.published import published
from mvae.paper.record import record
from mvae.progress import Reporter
from mvae.report.results import Row, read_rows
from mvae.runs import Settings, evaluate, open_run, train

__all__ = ["BUDGETS", "ITEMS", "Budget", "inference_parameters", "reproduce", "table1"]

ITEMS = {
    "table1": "inference-network parameters of every model (counted, nothing is trained)",
    "table2": "log p(x1), log p(x1,x2), log p(x1|x2) with proposal q(z|x1)",
    "table3": "variances of the log importance weights with proposal q(z|x1)",
    "table6": "as table2 with proposal q(z|x1,x2)",
    "table7": "as table3 with proposal q(z|x1,x2)",
}
PAPER_MODELS = ("vae", "cvae", "bivcca", "jmvae", "mvae_q", "mvae")


@dataclass(frozen=True)
class Budget:
    """How much of the paper's settings a reproduction spends: share of the epochs, test rows, importance samples."""

    epochs: Callable[[int], int]
    rows: int | None
    samples: int
    summary: str


BUDGETS = {
    "smoke": Budget(lambda epochs: 3, 60, 50, "3 epochs, 60 test rows, 50 samples: does it run?"),
    "laptop": Budget(lambda epochs: max(1, epochs * 60 // 500), 1000, 1000, "60 of 500 epochs, 1,000 test rows"),
    "paper": Budget(lambda epochs: epochs, None, 1000, "the paper's epochs, every test row"),
}


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
        for model in models
    ]


def reproduce(
    item: str,
    *,
    datasets: Sequence[str] = ("mnist",),
    models: Sequence[str] = PAPER_MODELS,
    recipes: Sequence[str] = ("paper", "coupled"),
    seeds: int = 1,
    budget: str = "laptop",
    results: Path = Path("results"),
    runs: Path = Path("runs/reproduce"),
    data_dir: Path | None = None,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """The recorded rows of a table for these models at this budget, after making those that are missing.

    A run is trained once: its directory is named by a hash of its settings, and an unfinished one is resumed. All four
    tables come from the same evaluations, so asking for another one afterwards costs nothing.

    Raises:
        SettingsError: an unknown item, dataset, model, recipe or budget.
    """
    _require("item", [item], [name for name in ITEMS if name != "table1"])
    _require("dataset", datasets, EXPERIMENTS)
    _require("model", models, MODELS)
    _require("budget", [budget], BUDGETS)
    found = []
    for dataset in datasets:
        for model in models:
            for recipe in recipes if model == "mvae" else ("paper",):
                for seed in range(seeds):
                    spend = BUDGETS[budget]
                    settings = Settings.of(
                        dataset, recipe, seed, model, epochs=spend.epochs(experiment(dataset).epochs)
                    )
                    rows = _recorded(results, settings, budget)
                    if not rows:
                        _make(settings, budget, results, runs, data_dir, device, reporter)
                        rows = _recorded(results, settings, budget)
                    found += [row for row in rows if row["item"] == item]
    return found


def _make(
    settings: Settings,
    budget: str,
    results: Path,
    runs: Path,
    data_dir: Path | None,
    device: str | None,
    reporter: Reporter | None,
) -> list[Row]:
    name = "-".join([settings.dataset, settings.model, settings.recipe, f"s{settings.seed}", _hash(settings)])
    directory, spend = runs / name, BUDGETS[budget]
    if not _finished(directory, settings):
        train(
            settings,
            directory,
            resume=(directory / CHECKPOINT).exists(),
            data_dir=data_dir,
            device=device,
            reporter=reporter,
        )
    run = open_run(directory, data_dir=data_dir, device=device)
    command = (
        f"mvae reproduce table2 --datasets {settings.dataset} --models {settings.model} --recipes {settings.recipe} "
        f"--seeds {settings.seed + 1} --budget {budget}"
    )
    names = run.splits.test.names
    proposals = [names[:1]]
    if run.model.joint_posterior and len(run.model.names) > 1:
        proposals.append(names)
    rows = []
    for proposal in proposals:
        found = evaluate(run, rows=spend.rows, samples=spend.samples, proposal=proposal, seed=settings.seed)
        rows += record(run, found, results, budget, command)
    return rows


def _finished(directory: Path, settings: Settings) -> bool:
    if not (directory / CHECKPOINT).exists():
        return False
    _, info = load_state(directory / CHECKPOINT)
    return info["epoch"] >= settings.epochs


def _recorded(results: Path, settings: Settings, budget: str) -> list[dict[str, Any]]:
    """Rows of Tables 2, 3, 6, 7 that were made with exactly these settings."""
    wanted = asdict(settings)
    rows = []
    for item in ("table2", "table3", "table6", "table7"):
        for row in read_rows(results / f"{item}.json"):
            own = {"dataset": row["dataset"], "model": row["model"], "recipe": row["recipe"], "seed": row["seed"]}
            if row["budget"] == budget and all((own | row["settings"]).get(k) == v for k, v in wanted.items()):
                rows.append(row)
    return rows


def _hash(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:8]


def _require(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise SettingsError(f"no {kind} {name!r}; there are {', '.join(known)}")
