"""A model that answers visitors, one question at a time."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvae.app.values import parsed, summary
from mvae.data.codecs import Codec
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.gaussian import Gaussian
from mvae.models.base import MultimodalVAE
from mvae.report.views import View
from mvae.runs.report import views
from mvae.runs.run import device_named, open_run, opened_model, read_run

__all__ = ["MOST_DRAWS", "Oracle"]

MOST_DRAWS = 64


@dataclass
class Oracle:
    """A model and how its modalities are read and shown."""

    name: str
    model: MultimodalVAE
    views: Mapping[str, View]
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of_run(cls, run_dir: str | Path, data_dir: str | Path | None = None, device: str | None = None) -> "Oracle":
        """The best model of a run. Where its data is gone, text can neither be read nor written.

        Raises:
            RunError: not a run, or one without a checkpoint.
        """
        run_dir = Path(run_dir)
        config, stored = read_run(run_dir)
        try:
            run = open_run(run_dir, data_dir=data_dir, device=device)
            model, data = run.model, run.data
        except (DataError, SettingsError):
            model, data = opened_model(run_dir).to(device_named(device)), None
        if model.context_dim:
            needs = ", ".join(model.covariates) or "its condition"
            raise QueryError(f"this {type(model).__name__} is conditioned on {needs}: serve one that is not")
        shown = views(config, model, stored, data)
        codecs = {} if data is None else data.codecs
        return cls(run_dir.resolve().name, model, {view.name: view for view in shown}, codecs)

    def row(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """What is given as one row of data.

        Raises:
            QueryError: an unknown modality, or a value that it cannot have.
        """
        self.model.require_known(list(given), "given")
        return {name: parsed(self.views[name], value, self.codecs.get(name)) for name, value in given.items()}

    def class_names(self, view: View) -> list[str]:
        """What may be given of a modality of classes; nothing of another one."""
        if view.kind != "classes":
            return []
        params = self.model.modalities[view.name].decode(
            torch.zeros(1, self.model.latent_dim, device=self.model.device)
        )
        codes, codec = range(params.shape[-1]), self.codecs.get(view.name)
        return [view.class_name(code) if codec is None else codec.format(torch.tensor(code)) for code in codes]

    def answer(
        self, row: Mapping[str, Tensor], of: Sequence[str] | None = None, n: int = 8, seed: int | None = None
    ) -> dict[str, Any]:
        """Draws of the modalities ``of`` given one row, as JSON.

        Returns:
            ``given``: what was conditioned on; ``information``: KL[q(z | given), p(z)] in nats, how much that says;
            ``answers``: name → draws and what they say together (`mvae.app.values.summary`).

        Raises:
            QueryError: an unknown modality, n outside 1 to 64, or a subset that this model cannot be given.
        """
        of = [name for name in self.views if name in self.model.answerable] if of is None else list(of)
        if not 1 <= n <= MOST_DRAWS:
            raise QueryError(f"n must be 1 to {MOST_DRAWS}, not {n}")
        seed = int(torch.seed() % 2**31) if seed is None else seed
        nothing = Gaussian.standard(1, self.model.latent_dim)
        with self._lock, torch.inference_mode():
            q = self.model.posterior(_table(row)) if row else nothing
            drawn = self._draw(row, of, n, seed) if of else {}
        information = float(q.kl_to_prior()) if isinstance(q, Gaussian) else None
        answers = {name: summary(self.views[name], values[:, 0].cpu()) for name, values in drawn.items()}
        return {"given": list(row), "information": information, "answers": answers}

    def _draw(self, row: Mapping[str, Tensor], of: Sequence[str], n: int, seed: int) -> dict[str, Tensor]:
        """Samples; of pictures the mean image of each z, of the same z as all others."""
        data = _table(row) if row else None
        drawn = self.model.generate(data, of=of, n=n, seed=seed)
        pictures = [name for name in of if self.views[name].kind == "picture"]
        means = self.model.generate(data, of=pictures, n=n, mean=True, seed=seed) if pictures else {}
        return drawn | means


def _table(row: Mapping[str, Tensor]) -> Table:
    """A row as a table; of modalities of columns NaN is missing."""
    holes = {name: ~value.isnan() for name, value in row.items() if value.is_floating_point() and value.isnan().any()}
    return Table(dict(row), holes)
