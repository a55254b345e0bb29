"""One optimiser step. If shapes never change, it is recorded and replayed on a GPU, or compiled on a CPU.

A step at the paper's sizes consists of a hundred small kernels; on a GPU, launching them costs more than running them.
If a row's terms are the same at each step, they are planned once for the whole table, and the whole step (gathering
the batch and its terms, noise, forward, backward, optimizer) is recorded once and replayed. On a CPU, the objective of
a long run is compiled (`mvae.training.compiled`). Everything else runs eagerly.
"""

import json
import threading
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import DataError, RunError
from mvae.files import prefixed, without_prefix
from mvae.modality import bank
from mvae.models.base import MultimodalVAE
from mvae.models.objective import Objective
from mvae.models.plan import require_posterior
from mvae.models.terms import MANY, Terms
from mvae.training.compiled import Compiled, compiled
from mvae.training.distributed import Processes
from mvae.training.optimizer import can_be_replayed, make_optimizer, optimizer_state, restore_optimizer, set_rate
from mvae.training.settings import TrainingSettings

__all__ = ["RECORDING", "Step", "can_be_recorded", "way_of"]

Way = Literal["eager", "recorded", "compiled"]  # to take a step
COMPILED_STEPS = 4_000  # steps of a run that earns back the time of compiling
EAGER_STEPS = 3  # eager steps before recording, so that every lazily created buffer and kernel exists
RECORDING = threading.Lock()  # one thread records at a time; meanwhile no other seeds the GPU's default generator


def can_be_recorded(model: MultimodalVAE, complete: bool) -> bool:
    """Are all shapes of a step on a GPU known beforehand, for a table that is ``complete`` or not?

    Masked rows would enter batch statistics, so models with batch norm cannot be recorded on an incomplete table.
    """
    mixes_rows = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return (
        model.static_terms
        and all(modality.fixed_shapes for modality in model.modalities.values())
        and (complete or not mixes_rows)
    )


def way_of(model: MultimodalVAE, table: Table, settings: TrainingSettings, steps: int) -> Way:
    """The fastest way to take ``steps`` steps on a table."""
    if not can_be_recorded(model, table.complete):
        return "eager"
    if model.device.type == "cuda":
        if Processes.here().count > 1:  # their communication by the CPU cannot be recorded
            return "eager"
        fits = _lies_on(table, model.device) and can_be_replayed(settings)
        return "recorded" if fits and not (table.complete and _has_banks(model, table)) else "eager"
    plain = type(model).batch_objective is MultimodalVAE.batch_objective  # only the objective itself is compiled
    few = len(model.names) <= MANY  # the compiler generates code for each one
    pays = plain and few and steps >= COMPILED_STEPS and settings.batch_size <= len(table)
    possible = model.device.type == "cpu" and table.complete and settings.row_weights is None
    return "compiled" if pays and possible else "eager"


def _lies_on(table: Table, device: torch.device) -> bool:
    first = next(iter(table.columns.values()))
    return isinstance(first, Tensor) and first.device.type == device.type


def _has_banks(model: MultimodalVAE, table: Table) -> bool:
    """Are modalities of the same shape computed together? (Their plan is copied to the device at each step.)"""
    parts, x = model.modalities, model.prepare(table.take(slice(2)))
    return bool(bank.banks_of_encoders(parts, x) or bank.banks_of_decoders(parts, x))


def row_weights(table: Table, name: str, model: MultimodalVAE) -> Float[Tensor, "rows"]:
    """A column as the weight of each row in the loss, scaled to 1 on average, on the table's device.

    Raises:
        DataError: no such column, a modality, or a column that has gaps or other than one number ≥ 0 per row.
    """
    if name in model.known or name not in table.names:
        raise DataError(f"row_weights names {name!r}: a column of the training table that is not a modality is needed")
    weights = table.select_rows(name, torch.arange(len(table))).double()
    if not table.has(name).all() or weights.numel() != len(table):
        raise DataError(f"row weights {name!r}: one number for each row is needed, and none missing")
    weights = weights.reshape(len(table))
    if not bool(((weights >= 0) & weights.isfinite()).all()) or not weights.any():
        raise DataError(f"row weights {name!r} must be finite and not negative, and some above 0")
    return (weights / weights.mean()).to(model.dtype)


def _require_terms(model: MultimodalVAE, table: Table) -> None:
    """Raises DataError if no row of the table has a term in the model's current stage: it would stay random."""
    generator = torch.Generator()
    for present in table.presence(model.names).split(4096):  # the first part decides, except for few models
        if model.terms(present, generator).given_anywhere.any():
            return
    stage = f" in its stage {model.stage!r}" if len(model.stages) > 1 else ""
    empty = not table.presence(model.names).any()
    names = ", ".join(model.names)
    remedy = f"no row has any of {names}" if empty else f"it needs rows with all of {names}; an MVAE learns from any"
    raise DataError(f"{type(model).__name__} learns nothing from these rows{stage}: {remedy}")


class Step:
    """An optimiser step on given rows, taken by calling it; it keeps running sums of the epoch's metrics.

    Steps are eager until `plan` finds a faster way.
    """

    def __init__(self, model: MultimodalVAE, table: Table, settings: TrainingSettings, seed: int = 0):
        self.model, self.table, self.settings = model, table, settings
        self.device, self.dtype, self.learning_rate = model.device, model.dtype, settings.learning_rate
        self.processes = Processes.here()
        self.generator = torch.Generator(self.device).manual_seed(seed)  # all processes draw the same
        self.subset_generator = torch.Generator().manual_seed(seed)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.parameters, settings, self.device)
        self.index_device = self.device if _lies_on(table, self.device) else torch.device("cpu")
        self.row_weights = None if settings.row_weights is None else row_weights(table, settings.row_weights, model)
        self.way: Way = "eager"
        self._terms: Terms | None = None  # of each row, or the same for all rows; None: drawn at each step
        self._compiled: Compiled | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken = 0
        # Other threads that record on this GPU use its one default generator; a CPU's is seeded by the step.
        shared = self.device.type == "cuda" and self.processes.count == 1
        self._noisy = [m for m in model.modalities.values() if shared and m.augment]
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self._fixed_counts: dict[int, Tensor] = {}

    def plan(self, steps: int) -> None:
        """Prepare for ``steps`` steps: plan fixed terms once, and compile a long run if possible.

        Raises:
            DataError: no row has a term, so that a new model would stay random.
        """
        model, table = self.model, self.table
        if model.untrained is None:
            _require_terms(model, table)
        self.way = way_of(model, table, self.settings, steps)
        if model.static_terms and (table.complete or self.way == "recorded"):
            self._terms = model.terms(table.presence(model.names))
            require_posterior(model, self._terms)
        if self.way == "recorded" and not table.complete:
            self._terms = self._terms and self._terms.on_device(self.device)
            self.table = table.filled()
        if self.way == "compiled" and self._terms is not None:
            rows, _ = self.processes.part(self.settings.batch_size)
            half = self.settings.precision == "bfloat16"
            self._compiled = compiled(model, self._terms, table.take(rows), half)
            self.way = "compiled" if self._compiled else "eager"

    def __call__(self, index: Tensor, beta: float, learning_rate: float) -> None:
        """Take a step on rows ``index`` with this β and learning rate. Nothing is read back from the device."""
        if learning_rate != self.learning_rate:
            self.learning_rate = learning_rate
            set_rate(self.optimizer, learning_rate)
        if self.way != "recorded":
            self._take(index, beta)
        elif self._graph is not None and len(index) == len(self._index):
            self._index.copy_(index)
            self._beta.fill_(beta)
            self._graph.replay()
        else:
            self._take(index, torch.full((), beta, device=self.device))
            self._taken += 1
            if self._taken == EAGER_STEPS:
                self._record(index)

    def _take(self, index: Tensor, beta: float | Tensor) -> None:
        rows, share = self.processes.part(len(index))
        batch = self.table.take(index[rows])
        self.optimizer.zero_grad()
        with self.processes.averaged_buffers(self.model, share):
            if self._terms is not None and self._compiled is not None and len(batch) == self._compiled.rows:
                noise = self._noise(self._terms, len(index))[:, rows]
                loss, sums = self._compiled(batch, beta, noise)
                parts, counts = self._compiled.parts, self._compiled.counts
            else:
                terms = self._terms_of(batch, index)
                noise = self._noise(terms, len(index))[:, rows]
                terms = terms if share == 1 or terms.alike else terms.rows(rows)
                if self.row_weights is not None:
                    terms = terms.weighing(self.row_weights[index[rows]])
                result = self._objective(batch, terms, beta, noise)
                loss, parts, sums, counts = result.loss, result.parts, result.sums(), self._counts(result)
            if share < 1:  # one of several processes
                loss, sums, counts = share * loss, bool(share) * sums, bool(share) * counts
            self._descend(loss)
            self._add(parts, sums, counts)

    def _objective(self, batch: Table, terms: Terms, beta: float | Tensor, noise: Tensor) -> Objective:
        for modality in self._noisy:
            modality.generator = self.generator
        # No cache: inside an outer autocast it would outlive the weights.
        half = self.settings.precision == "bfloat16"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
                return self.model.batch_objective(batch, terms, beta=beta, noise=noise)
        finally:
            for modality in self._noisy:
                modality.generator = None

    def _terms_of(self, batch: Table, index: Tensor) -> Terms:
        """The terms of a step's rows; this process may have only a part of them."""
        if self._terms is not None:
            return self._terms.rows(index) if self._terms.masked else self._terms
        if self.processes.count == 1:
            return self.model.terms(self.model.presence(batch), self.subset_generator)
        present = self._present if len(self._present) == 1 else self._present[index.cpu()]
        return self.model.terms(present, self.subset_generator)

    @cached_property
    def _present(self) -> Tensor:
        return self.model.presence(self.table)

    def _noise(self, terms: Terms, rows: int) -> Tensor:
        shape = len(terms.names), rows, self.model.latent_dim
        return torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)

    def _descend(self, loss: Tensor) -> None:
        if loss.requires_grad:  # it does not if the model learns nothing from the batch
            loss.backward()
        elif self.processes.count == 1:
            return
        self.processes.add_gradients(self.parameters.values())
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip_norm)
        self.optimizer.step()

    def _add(self, parts: tuple[str, ...], sums: Tensor, counts: Tensor) -> None:
        """Add to the running sums on the device, kept by the names of the parts (fewer without a modality)."""
        key = json.dumps(parts)
        if key not in self.sums:
            zeros = torch.zeros(len(parts), dtype=torch.float64, device=self.device)
            self.sums[key], self.counts[key] = zeros, zeros.clone()
        if self.processes.count > 1:
            both = torch.stack([sums, counts]).to(self.sums[key].dtype)
            self.processes.add_up([both])
            sums, counts = both
        self.sums[key] += sums
        self.counts[key] += counts

    def _counts(self, result: Objective) -> Tensor:
        """The objective's counts; if every row has the same terms, they depend on the number of rows alone."""
        rows = result.kl.shape[1]
        if self._terms is None or result.terms is not self._terms.on_device(self.device):
            return result.counts()
        if rows not in self._fixed_counts:
            self._fixed_counts[rows] = result.counts()
        return self._fixed_counts[rows]

    def _record(self, index: Tensor) -> None:
        self._index = index.clone()
        self._beta = torch.ones((), device=self.device)
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self.generator)
        # Not on a new stream: PyTorch reuses its 32, so that another thread might be using it.
        own, shared = torch.cuda.current_stream(self.device), torch.cuda.default_stream(self.device)
        stream = None if own == shared else own  # the default stream cannot be recorded
        with RECORDING, torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._take(self._index, self._beta)

    def means(self) -> dict[str, float]:
        """The mean metrics of the steps since `reset_means`."""
        total: dict[str, float] = {}
        number: dict[str, float] = {}
        for key, sums in self.sums.items():
            values = torch.stack([sums, self.counts[key]]).tolist()
            for name, value, count in zip(json.loads(key), *values, strict=True):
                total[name] = total.get(name, 0.0) + value
                number[name] = number.get(name, 0.0) + count
        return {name: value / number[name] for name, value in total.items() if number[name]}

    def reset_means(self) -> None:
        """Reset the sums for a new epoch."""
        for values in (self.sums, self.counts):
            for tensor in values.values():
                tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything but the weights: the states of the optimizer and the generators, and the running sums."""
        result = {"generator": self.generator.get_state(), "subset_generator": self.subset_generator.get_state()}
        result |= prefixed("optimizer", optimizer_state(self.optimizer, self.parameters))
        return result | prefixed("sum", self.sums) | prefixed("count", self.counts)

    def restore(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Restore what `state` returned.

        Raises:
            RunError: a tensor is missing, has another shape, or is not finite.
        """
        try:
            self.generator.set_state(tensors["generator"])
            self.subset_generator.set_state(tensors["subset_generator"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from error
        restore_optimizer(self.optimizer, self.parameters, without_prefix("optimizer", tensors), path)
        self.sums = {name: t.to(self.device) for name, t in without_prefix("sum", tensors).items()}
        self.counts = {name: t.to(self.device) for name, t in without_prefix("count", tensors).items()}
