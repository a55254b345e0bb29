"""The objective of a batch of fixed size and fixed terms, compiled for a CPU.

`torch.compile` fuses the operations between the matrix products, which a long run earns back many times.
"""

import inspect
import logging
from typing import Any

import torch
from torch import Tensor

from mvae.data.table import Table
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.terms import Terms

__all__ = ["Compiled", "compiled"]

_log = logging.getLogger("mvae")

# Each model is a recompilation of one function, of which PyTorch makes 8: the ninth of a process would not be compiled.
# Where PyTorch can, it counts each model apart.
_can = "isolate_recompiles" in inspect.signature(torch.compile).parameters
_APART: dict[str, Any] = {"isolate_recompiles": True} if _can else {}


class Compiled:
    """The whole objective as one graph, for batches of as many rows as ``batch``; ``half``: products in bfloat16.

    It runs forward and backward once on that batch, and leaves the model as it was.
    """

    def __init__(self, model: MultimodalVAE, terms: Terms, batch: Table, half: bool):
        self.model, self.terms, self.rows, self.half = model, terms, len(batch), half
        self._graph = torch.compile(self._measured, fullgraph=True, dynamic=False, **_APART)
        zeros = torch.zeros(len(terms.names), self.rows, model.latent_dim, dtype=model.dtype)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        try:
            with torch.no_grad(), evaluating(model):
                probe = model.objective(model.prepare(batch), terms, zeros)
            self.parts, self.counts = probe.parts, probe.counts()
            self(batch, 0.0, zeros)[0].backward()
        finally:
            model.zero_grad()
            for name, buffer in model.named_buffers():  # undo this batch's effect on running statistics
                buffer.copy_(before[name])

    def _measured(self, x: dict[str, Tensor], noise: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half, cache_enabled=False):
            result = self.model.objective(x, self.terms, noise, beta)
        return result.loss, result.sums()

    def __call__(self, batch: Table, beta: float | Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the sums of its parts."""
        return self._graph(self.model.prepare(batch), noise, torch.as_tensor(beta, dtype=torch.float32))


def compiled(model: MultimodalVAE, terms: Terms, batch: Table, half: bool) -> Compiled | None:
    """Compile the objective for batches of this size; ``half``: products in bfloat16.

    None where the model cannot be compiled as one graph, or without a C++ compiler: training then goes on uncompiled.
    """
    try:
        return Compiled(model, terms, batch, half)
    except Exception as error:  # any failure of the compiler: a faulty model is reported by the step itself
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        _log.info("the training step is not compiled: %s", reason)
        return None
