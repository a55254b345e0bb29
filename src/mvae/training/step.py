"""One optimiser step: replayed as a CUDA graph on a GPU, compiled on a CPU, where the shapes never change.

A step at the paper's sizes is a hundred small kernels; on a GPU launching them costs more than running them. When
a row's terms are the same at each step, they are planned once for the whole table, and the whole step (gathering
the batch and its terms, noise, forward, backward, Adam) is recorded once and replayed. On a CPU, `torch.compile` merges
what stands between the matrix products, which a long run earns back many times.
"""

import json
import threading
from pathlib import Path

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.errors import RunError, SettingsError
from mvae.files import prefixed, without_prefix
from mvae.modality import bank
from mvae.models.base import MultimodalVAE, evaluating
from mvae.models.objective import Objective
from mvae.models.terms import Terms

__all__ = ["RECORDING", "Step", "can_be_recorded"]

COMPILED_STEPS = 4_000  # a run this long earns back the compiler's seconds
EAGER_STEPS = 3  # before recording, so that every lazily made buffer and kernel exists
RECORDING = threading.Lock()  # of one thread at a time; meanwhile nobody seeds the GPU's default generator


def can_be_recorded(model: MultimodalVAE, complete: bool) -> bool:
    """Are all shapes of a step on a GPU known beforehand, for a table that is ``complete`` or one that is not?

    Masked rows would enter batch statistics, so networks with batch norm need exact rows of an incomplete table.
    """
    mixes_rows = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return (
        model.static_terms
        and all(modality.fixed_shapes for modality in model.modalities.values())
        and (complete or not mixes_rows)
    )


class Step:
    """Calling it takes one step of Adam on the given rows; it keeps running sums of the epoch's metrics.

    ``steps`` of ``batch_size`` rows are to come; they decide whether compiling pays.
    """

    def __init__(
        self, model: MultimodalVAE, table: Table, learning_rate: float, seed: int, batch_size: int = 1, steps: int = 0
    ):
        self.model, self.table, self.learning_rate = model, table, learning_rate
        self.device = model.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.subset_generator = torch.Generator().manual_seed(seed)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise SettingsError("the model has no parameters to train")
        on_gpu = self.device.type == "cuda"
        rate = torch.tensor(learning_rate, device=self.device) if on_gpu else learning_rate  # a graph reads a tensor
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=rate, fused=True, capturable=on_gpu)
        first = next(iter(table.columns.values()))
        on_device = isinstance(first, Tensor) and first.device.type == self.device.type
        self.index_device = self.device if on_device else torch.device("cpu")
        fixed_shapes = can_be_recorded(model, table.complete)
        self.can_record = on_gpu and on_device and fixed_shapes
        if self.can_record and table.complete:  # a bank's plan is copied to the device at each step
            parts, x = model.modalities, model.prepare(table.take(slice(2)))
            self.can_record = not (bank.banks_of_encoders(parts, x) or bank.banks_of_decoders(parts, x))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken = 0
        self._terms: Terms | None = None  # of every row of the table, or of all rows alike
        if model.static_terms and (table.complete or self.can_record):
            self._terms = model.terms(table.presence(model.names))
        if not table.complete and self.can_record:
            self._terms = self._terms and self._terms.on_device(self.device)
            self.table = table.zero_filled()
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self._fixed_counts: dict[int, Tensor] = {}
        self._compiled: _Compiled | None = None
        # Other threads record on this GPU and draw from its one default generator; on a CPU it is seeded by the step.
        self._noisy = [m for m in model.modalities.values() if on_gpu and m.augment]
        pays = steps >= COMPILED_STEPS and batch_size <= len(table)
        if pays and not on_gpu and fixed_shapes and self._terms is not None:
            self._compiled = _Compiled(model, self._terms, table.take(torch.arange(batch_size)))

    def __call__(self, index: Tensor, beta: float, learning_rate: float) -> None:
        """Rows ``index`` with this β and learning rate. Nothing is read back from the device."""
        if learning_rate != self.learning_rate:
            self._set_rate(learning_rate)
        if not self.can_record:
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

    def _set_rate(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def _take(self, index: Tensor, beta: float | Tensor) -> None:
        batch = self.table.take(index)
        terms = self._terms
        if terms is None:
            terms = self.model.terms(batch.presence(self.model.names), self.subset_generator)
        elif terms.masked:
            terms = terms.rows(index)
        self.optimizer.zero_grad()
        if self._compiled is not None and self._compiled.works and len(index) == self._compiled.rows:
            loss, sums = self._compiled(batch, beta, self.generator)
            loss.backward()
            self.optimizer.step()
            self._add(self._compiled.parts, sums, self._compiled.counts)
            return
        for modality in self._noisy:
            modality.generator = self.generator
        try:
            result = self.model(batch, terms, beta=beta, generator=self.generator)
        finally:
            for modality in self._noisy:
                modality.generator = None
        if result.loss.requires_grad:  # not where the batch holds nothing that this model learns from
            result.loss.backward()
            self.optimizer.step()
        self._add(result.parts, result.sums(), self._counts(result))

    def _add(self, parts: tuple[str, ...], sums: Tensor, counts: Tensor) -> None:
        """Running sums, on the device, by the names of what is summed (batches without a modality have fewer)."""
        key = json.dumps(parts)
        if key not in self.sums:
            zeros = torch.zeros(len(parts), dtype=torch.float64, device=self.device)
            self.sums[key], self.counts[key] = zeros, zeros.clone()
        self.sums[key] += sums
        self.counts[key] += counts

    def _counts(self, result: Objective) -> Tensor:
        """Its counts; where every row has the same terms they depend on the number of rows alone."""
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
        # Not on a new one: PyTorch has 32 and gives them out again, so that another thread might be using it.
        own, shared = torch.cuda.current_stream(self.device), torch.cuda.default_stream(self.device)
        stream = None if own == shared else own  # the default one cannot be recorded
        with RECORDING, torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._take(self._index, self._beta)

    def means(self) -> dict[str, float]:
        """Metrics of the steps since `reset_means`; one transfer from the device."""
        total: dict[str, float] = {}
        number: dict[str, float] = {}
        for key, sums in self.sums.items():
            values = torch.stack([sums, self.counts[key]]).tolist()
            for name, value, count in zip(json.loads(key), *values, strict=True):
                total[name] = total.get(name, 0.0) + value
                number[name] = number.get(name, 0.0) + count
        return {name: value / number[name] for name, value in total.items() if number[name]}

    def reset_means(self) -> None:
        """Begin a new epoch's metrics."""
        for values in (self.sums, self.counts):
            for tensor in values.values():
                tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything but the weights: Adam's moments, the generators, the running sums."""
        result = {"generator": self.generator.get_state(), "subset_generator": self.subset_generator.get_state()}
        for name, parameter in self.parameters.items():
            result |= prefixed(f"adam/{name}", self.optimizer.state.get(parameter, {}))
        return result | prefixed("sum", self.sums) | prefixed("count", self.counts)

    def restore(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Back to what `state` gave.

        Raises:
            RunError: a tensor is missing or has another shape.
        """
        try:
            self.generator.set_state(tensors["generator"])
            self.subset_generator.set_state(tensors["subset_generator"])
            for name, parameter in self.parameters.items():
                moments = without_prefix(f"adam/{name}", tensors)
                if not moments:
                    continue  # a parameter that has had no gradient yet
                if any(moments[key].shape != parameter.shape for key in ("exp_avg", "exp_avg_sq")):
                    raise RunError(f"{path} belongs to another model: Adam's moments of {name} have another shape")
                self.optimizer.state[parameter] = {
                    key: value.to(self.device) if value.dim() or self.device.type == "cuda" else value
                    for key, value in moments.items()
                }
        except (KeyError, RuntimeError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); train again in another --run-dir") from error
        self.sums = {name: t.to(self.device) for name, t in without_prefix("sum", tensors).items()}
        self.counts = {name: t.to(self.device) for name, t in without_prefix("count", tensors).items()}


class _Compiled:
    """The objective of a batch of fixed size and fixed terms, compiled; ``works`` says whether that succeeded.

    It must be the whole objective in one graph. Where a model cannot be compiled so, or there is no C++ compiler,
    training goes on as it would have without.
    """

    def __init__(self, model: MultimodalVAE, terms: Terms, batch: Table):
        def measured(x: dict[str, Tensor], noise: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
            result = model.objective(x, terms, noise, beta)
            return result.loss, result.sums()

        self.model, self.rows = model, len(batch)
        self.noise = len(terms.names), self.rows, model.latent_dim
        zeros = torch.zeros(self.noise, dtype=model.dtype)
        self.works = False
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        try:
            with torch.no_grad(), evaluating(model):
                probe = model.objective(model.prepare(batch), terms, zeros)
            self.parts, self.counts = probe.parts, probe.counts()
            self._measured = torch.compile(measured, fullgraph=True, dynamic=False)
            self._measured(model.prepare(batch), zeros, torch.zeros(()))[0].backward()
            self.works = True
        except Exception:  # whatever the compiler meets: the step itself reports what is wrong with a model
            return
        finally:
            model.zero_grad()
            for name, buffer in model.named_buffers():  # running statistics saw a batch too many
                buffer.copy_(before[name])

    def __call__(self, batch: Table, beta: float | Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss, and the sums of its parts."""
        noise = torch.randn(self.noise, generator=generator, dtype=self.model.dtype)
        return self._measured(self.model.prepare(batch), noise, torch.as_tensor(beta, dtype=torch.float32))
