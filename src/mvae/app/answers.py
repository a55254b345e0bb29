"""A model that answers visitors' queries, one at a time."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvae.app.values import parsed, summary
from mvae.data.codecs import Codec, unknown_words
from mvae.data.tables.column import TableColumn
from mvae.data.tables.schema import TableSchema
from mvae.errors import DataError, QueryError, SettingsError
from mvae.gaussian import Gaussian
from mvae.models.base import MultimodalVAE
from mvae.report.views import View
from mvae.runs.answers import SAMPLES, answers
from mvae.runs.report import views
from mvae.runs.run import device_named, open_run, opened_model, read_run
from mvae.runs.values import table_of

__all__ = ["MOST_DRAWS", "Oracle"]

MOST_DRAWS = 64
FEWER = 100  # samples of z if a text or a picture is given: every sample scores it, and 400 would be slow


@dataclass
class Oracle:
    """A model, how its modalities are read and shown, and for a table the meaning of its columns."""

    name: str
    model: MultimodalVAE
    views: Mapping[str, View]
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    schema: TableSchema | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of_run(cls, run_dir: str | Path, data_dir: str | Path | None = None, device: str | None = None) -> "Oracle":
        """The best model of a run. If the run's data is gone, text can be neither read nor written.

        Raises:
            RunError: not a run, or one without a checkpoint. QueryError: the model is conditioned on something.
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
        schema = TableSchema.from_dict(stored["layout"]) if stored.get("layout") else None
        return cls(run_dir.resolve().name, model, {view.name: view for view in shown}, codecs, schema)

    def row(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """The given values as one row of data.

        Raises:
            QueryError: an unknown modality, or a value that it cannot have.
        """
        self.model.require_known(list(given), "given")
        return {name: parsed(self.views[name], value, self.codecs.get(name)) for name, value in given.items()}

    def unknown_words(self, given: Mapping[str, Any]) -> list[str]:
        """The words of given texts that are not in the model's vocabulary, each once."""
        return unknown_words(self.codecs, ((name, text) for name, text in given.items() if isinstance(text, str)))

    def class_names(self, view: View) -> list[str]:
        """The classes that may be given of a modality; empty if it is not a modality of classes."""
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

        For modalities of columns, the answers are those of `mvae predict` and `mvae impute` for such a row: n draws are
        listed, and intervals and shares are computed from all of them. Given columns stay as they are.

        Returns:
            ``given``: the names conditioned on; ``information``: KL[q(z | given), p(z)] in nats, what they say about z;
            ``answers``: name → draws and their summary (`mvae.app.values.summary`).

        Raises:
            QueryError: an unknown modality, n outside 1 to 64, or a subset that this model cannot be conditioned on.
        """
        of = [name for name in self.views if name in self.model.answerable] if of is None else list(of)
        if not 1 <= n <= MOST_DRAWS:
            raise QueryError(f"n must be 1 to {MOST_DRAWS}, not {n}")
        seed = int(torch.seed() % 2**31) if seed is None else seed
        nothing = Gaussian.standard(1, self.model.latent_dim)
        with self._lock, torch.inference_mode():
            q = self.model.posterior(table_of(row)) if row else nothing
            drawn = self._draw(row, of, n, seed) if of else {}
        information = float(q.kl_to_prior()) if isinstance(q, Gaussian) else None
        said = {
            name: summary(self.views[name], values[:, 0].cpu(), n, self._written(name, row))
            for name, values in drawn.items()
        }
        return {"given": list(row), "information": information, "answers": said}

    def _draw(self, row: Mapping[str, Tensor], of: Sequence[str], n: int, seed: int) -> dict[str, Tensor]:
        """Samples of modalities; for pictures, the mean image of each z. All but columns share the same z."""
        self.model.require_known(of, "of")
        data = table_of(row) if row else None
        columns = [name for name in of if self.views[name].kind == "table"]
        others = [name for name in of if name not in columns]
        pictures = [name for name in of if self.views[name].kind == "picture"]
        drawn = self._draw_columns(row, columns, seed) if columns else {}
        drawn |= self.model.generate(data, of=others, n=n, seed=seed) if others else {}
        drawn |= self.model.generate(data, of=pictures, n=n, mean=True, seed=seed) if pictures else {}
        return {name: drawn[name] for name in of}

    def _draw_columns(self, row: Mapping[str, Tensor], of: Sequence[str], seed: int) -> dict[str, Tensor]:
        """Draws of modalities of columns, one per sample of z, ``samples 1 fields``; given values are kept."""
        nothing = {name: torch.full((1, *self.views[name].shape), torch.nan, dtype=torch.float64) for name in of}
        given = nothing | dict(row)
        values = {name: value.nan_to_num().numpy() for name, value in given.items()}
        present = {
            name: (~value.isnan() if self.views[name].kind == "table" else torch.ones(1, dtype=torch.bool)).numpy()
            for name, value in given.items()
        }
        samples = SAMPLES if all(self.views[name].kind == "table" for name in row) else FEWER
        found = answers(self.model, values, present, of, samples, seed)
        return {name: torch.from_numpy(np.where(present[name], values[name], found[name].draws)) for name in of}

    def _written(self, name: str, row: Mapping[str, Tensor]) -> dict[str, TableColumn]:
        """The table's columns that format a modality's answers; given numbers are left out, so they are not rounded."""
        if self.schema is None or self.views[name].kind != "table":
            return {}
        columns = self.schema.fields_of(name)
        given = ~row[name][0].isnan() if name in row else torch.zeros(len(columns), dtype=torch.bool)
        return {
            column.name: column
            for column, here in zip(columns, given.tolist(), strict=True)
            if column.kind == "date" or not here
        }
