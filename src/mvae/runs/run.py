"""A run: one experiment trained into a directory, and what can be asked of it afterwards."""

import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mvae.files import load_weights, read_json, write_json
from mvae.training.checkpoint import CHECKPOINT, SETTINGS, best_weights
from mvae.data.missing import keep_at_random
from mvae.data.splits import Splits
from mvae.data.table import Table
from mvae.data.pairing import complete_rows, repeat_pairs, weak_supervision
from mvae.errors import QueryError, RunError, SettingsError
from mvae.evaluation.likelihood import LogLikelihood, log_likelihoods
from mvae.evaluation.validation import validate
from mvae.models.base import MultimodalVAE
from mvae.training.progress import Reporter
from mvae.provenance import commit, installed_version
from mvae.paper.settings import FORMAT, Settings, read_settings
from mvae.training.fit import History, fit, flushed_denormals, keep_freed_memory

__all__ = ["Evaluation", "Run", "device_named", "evaluate", "open_run", "train"]

SELECTED_BY = 1_000  # validation rows at least, where a part of the training rows is learned from


@dataclass(frozen=True, eq=False)
class Run:
    """A trained model with its data."""

    directory: Path
    settings: Settings
    model: MultimodalVAE
    splits: Splits
    progress: dict[str, Any]


def device_named(name: str | None) -> torch.device:
    """A device by name; None takes a GPU where there is one.

    Raises:
        SettingsError: the name is none, or the device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise SettingsError(f"no device {name!r} here ({str(error).splitlines()[0]}): try --device cpu") from None
    return device


def train(
    settings: Settings,
    run_dir: Path,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
    device: str | None = None,
    reporter: Reporter | None = None,
    deterministic: bool = False,
) -> tuple[Run, History]:
    """Train a run, or go on with one.

    Raises:
        RunError: the directory holds another run, or (to resume) none; or the run to start from is none, or of other
            networks. DataError: data absent or damaged.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    path = run_dir / SETTINGS
    if resume:
        settings = _same_settings(run_dir, settings)
    elif path.exists():
        raise RunError(f"{run_dir} holds a run already: go on with --resume, or choose another --run-dir")
    keep_freed_memory()
    with flushed_denormals():  # from the start: worker threads inherit it when they begin
        splits = settings.experiment.load(data_dir)
        model = settings.build().to(device_named(device))
        table, validation = _learned_from(settings, splits, model)
        if settings.start_from is not None and not (run_dir / CHECKPOINT).exists():
            start = Path(settings.start_from)
            weights, _ = best_weights(start)
            _same_coding(start, splits)
            load_weights(model, weights, start / CHECKPOINT)
        if not resume:
            coding = {} if splits.coding is None else {"coding": splits.coding}
            write_json(path, {"format": FORMAT, **asdict(settings), **coding, **_circumstances(model.device)})
        else:
            _same_coding(run_dir, splits)
        history = fit(
            model,
            table,
            epochs=settings.epochs,
            validation=validation,
            anneal_epochs=settings.anneal_epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            decay_epochs=settings.decay_epochs,
            seed=settings.seed,
            run_dir=run_dir,
            resume=resume and (run_dir / CHECKPOINT).exists(),  # a run killed before its first checkpoint starts again
            reporter=reporter,
        )
    return Run(run_dir, settings, model, splits, {"best_epoch": history.best_epoch}), history


def _learned_from(settings: Settings, splits: Splits, model: MultimodalVAE) -> tuple[Table, Table | None]:
    """The rows to train on and those to select by; with few pairs, only these where the model needs them."""
    table, validation = splits.train, splits.validation
    if settings.rows is not None:
        share = min(1.0, settings.rows / len(table))
        table = table.first(settings.rows)
        validation = validation.first(max(SELECTED_BY, math.ceil(share * len(validation))))
    if settings.kept is not None:
        table, validation = (keep_at_random(part, settings.kept, settings.seed) for part in (table, validation))
    if settings.pairs is None:
        return table, validation
    table, validation = (weak_supervision(part, settings.pairs, settings.seed) for part in (table, validation))
    if not model.pairs_only:
        return repeat_pairs(table, settings.repeat_pairs), validation
    pairs = complete_rows(table)
    if pairs is None:
        raise SettingsError(f"{settings.model} learns from pairs, and {settings.pairs:g} of {len(table)} rows are none")
    return pairs, complete_rows(validation)


def _circumstances(device: torch.device) -> dict[str, Any]:
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "command": " ".join(["mvae", *sys.argv[1:]]),
        "commit": commit(),
        "mvae": installed_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": on,
    }


def _same_settings(run_dir: Path, asked: Settings) -> Settings:
    stored = read_settings(run_dir)
    differ = [f"{k} was {v!r}, now {asdict(asked)[k]!r}" for k, v in asdict(stored).items() if asdict(asked)[k] != v]
    if differ:
        raise RunError(f"{run_dir} cannot be resumed with other settings: {'; '.join(differ)}")
    return stored


def _same_coding(run_dir: Path, splits: Splits) -> None:
    """Raises RunError where the data's numbers mean something else than when the run was trained."""
    stored = read_json(run_dir / SETTINGS).get("coding")
    if stored != splits.coding:
        raise RunError(
            f"{run_dir} was trained with another vocabulary ({stored}) than these files give ({splits.coding}), so its "
            "numbers would be read as other words: point --data-dir at the files it was trained on"
        )


def open_run(run_dir: Path, *, data_dir: Path | None = None, device: str | None = None) -> Run:
    """A run's model with its best weights, and its data.

    Raises:
        RunError: not a run directory, no checkpoint yet, damaged, or of another model. DataError: its data is absent.
    """
    settings = read_settings(run_dir)
    what = settings.experiment
    weights, progress = best_weights(run_dir)
    model = settings.build()
    load_weights(model, weights, run_dir / CHECKPOINT)
    model.stage = progress.get("stage", model.stage)  # which terms are evaluated may depend on it
    model = model.to(device_named(device)).eval()
    splits = what.load(data_dir)
    _same_coding(run_dir, splits)
    return Run(run_dir, settings, model, splits, progress)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Likelihoods by name, and the instruments on the same rows."""

    likelihoods: Mapping[str, LogLikelihood]
    instruments: Mapping[str, float]
    rows: int
    proposal: tuple[str, ...]
    samples: int

    def label_gap(self) -> float | None:
        """mean log p(x1, x2) − mean log p(x1 | x2): log p(x2), −2.30 for ten labels of equal share (a check)."""
        joint, conditional = self.likelihoods.get("log p(x1,x2)"), self.likelihoods.get("log p(x1|x2)")
        return None if joint is None or conditional is None else joint.mean - conditional.mean


def evaluate(
    run: Run,
    *,
    rows: int | None = None,
    samples: int | None = None,
    proposal: tuple[str, ...] | None = None,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> Evaluation:
    """Tables 2 and 3 for one run: log p(x1), log p(x1, x2), log p(x1 | x2) of test rows, with diagnostics.

    Args:
        run: what `open_run` gave.
        rows: the first so many test rows; default all.
        samples: importance samples a row; default the paper's for this dataset (Sec. 5).
        proposal: modalities of q(z | ·) that samples come from; default the first one, as in Table 2.
        seed: of the draws.
        progress: told what share of the scoring is done.

    Raises:
        QueryError: an unknown modality, rows < 1.
    """
    if rows is not None and rows < 1:
        raise QueryError(f"rows must be at least 1, not {rows}")
    keep_freed_memory()
    table = run.splits.test if rows is None else run.splits.test.first(rows)
    first, *others = table.names
    asked = {"log p(x1)": ([first], []), "log p(x1,x2)": ([first, *others], []), "log p(x1|x2)": ([first], others)}
    queries = {name: query for name, query in asked.items() if _answers(run.model, *query)}
    proposal, what = proposal or (first,), run.settings.experiment
    samples = what.samples if samples is None else samples
    likelihoods = log_likelihoods(
        run.model,
        table,
        queries,
        proposal=proposal,
        samples=samples,
        denominator_samples=what.denominator_samples,
        seed=seed,
        progress=progress,
    )
    return Evaluation(likelihoods, validate(run.model, table), len(table), proposal, samples)


def _answers(model: MultimodalVAE, of: list[str], given: list[str]) -> bool:
    """Is this among the model's queries? (A VAE has no joint likelihood, a CVAE no other than the conditional.)"""
    try:
        model.require_known([*of, *given])
        model.plan_query(of, given)
    except QueryError:
        return False
    return True
