"""Encoders and decoders as graphs (ONNX or torch.export), with inputs and outputs in the user's units."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvae.errors import QueryError, require_extra
from mvae.export.draws import Draw, draw_of
from mvae.files import write_whole
from mvae.gaussian import Gaussian
from mvae.likelihoods import Categorical
from mvae.modality.base import Modality
from mvae.modality.columns import ColumnsModality
from mvae.modality.strings import StringModality
from mvae.models.base import MultimodalVAE

__all__ = ["Decoder", "Encoder", "StringDecoder", "input_dtype", "write_graph"]

ROWS = 3  # rows of the example that is traced; a graph takes any number


def input_dtype(model: MultimodalVAE, name: str) -> torch.dtype:
    """The input type of an encoder's graph: class numbers as int64, real values as float64, all others as float32."""
    modality = model.modalities[name]
    if isinstance(modality.likelihood, Categorical):
        return torch.int64
    return torch.float32 if modality.scaling is None else torch.float64


class Encoder(nn.Module):
    """Stored values of one modality → its expert's precision and precision × mean, ``rows latent`` each.

    Single classes have only as many experts as there are classes: they are computed once, and the graph is a table. A
    class number below 0 means missing, and its expert has precision 0.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        name: str,
        classes: int | None,
        encode: Callable[[str, Tensor], Gaussian] | None = None,
    ):
        super().__init__()
        self.name, self.prepare, self.encode = name, model.modalities[name].prepare, encode or model.expert
        if classes is not None:
            for what, known in zip(("precisions", "shifts"), self._expert(torch.arange(classes)), strict=True):
                self.register_buffer(what, torch.cat([known, torch.zeros_like(known[:1])]))
        self.of_classes = classes is not None

    def _expert(self, x: Tensor) -> tuple[Tensor, Tensor]:
        expert = self.encode(self.name, self.prepare(x))
        return expert.precision, expert.shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The precision and precision × mean of each row's expert."""
        if not self.of_classes:
            return self._expert(x)
        place = torch.where(x < 0, len(self.get_buffer("shifts")) - 1, x)
        return self.get_buffer("precisions")[place], self.get_buffer("shifts")[place]


class Decoder(nn.Module):
    """Latents ``n latent`` (and noise) → E[x | z], and a draw of x where the likelihood has one."""

    modality: Modality

    def __init__(self, modality: Modality):
        super().__init__()
        self.__dict__["modality"] = modality  # not a submodule, so that a program holds only the weights that it uses
        self.draw: Draw | None = draw_of(self.modality.likelihood)
        self.noise = None if self.draw is None else self.draw.noise

    def forward(self, z: Tensor, noise: Tensor | None = None) -> tuple[Tensor, ...]:
        """Decode to the user's units; pictures have the scale of the column."""
        if isinstance(self.modality, ColumnsModality):
            return self._columns(self.modality, z, noise)
        params, own = self.modality.decode(z), self.modality.likelihood
        found = [own.mean(params)]
        if self.draw is not None and noise is not None:
            found.append(self.draw.of(own, params, noise))
        found = [own.stored(x) for x in found]
        return tuple(x if self.modality.scaling is None else self.modality.scaling.in_units(x, 1) for x in found)

    def _columns(self, modality: ColumnsModality, z: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
        params = modality.parameters_of(z)
        found = [modality.point(params)]
        if self.draw is not None and noise is not None:
            found.append(modality.scaling.in_units(self.draw.of(modality.likelihood, params, noise)))
        return tuple(modality.scaling.near_training(x) for x in found)

    @torch.no_grad()
    def noise_shape(self, latents: int) -> tuple[int, ...]:
        """The shape of the noise for one example, which is that of the likelihood's parameters."""
        return tuple(self.modality.decode(torch.zeros(1, latents)).shape[1:])


class StringDecoder(nn.Module):
    """Latents ``n latent`` and noise ``n length symbols+1`` → a string written greedily, and one that is drawn.

    Both are tokens ``n length``, generated one after the other.
    """

    noise = "uniform"
    modality: StringModality

    def __init__(self, modality: StringModality):
        super().__init__()
        self.__dict__["modality"] = modality

    def forward(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `StringModality.generate`, with draws by the given noise."""
        return self._written(z, None), self._written(z, noise)

    def _written(self, z: Tensor, noise: Tensor | None) -> Tensor:
        token = torch.full_like(z[:, :1], self.modality.start, dtype=torch.int64)
        ended, state, written = torch.zeros_like(token, dtype=torch.bool), None, []
        for place in range(self.modality.length):
            logits, state = self.modality.decoder(z, token, state)
            logits = logits[:, 0]
            if noise is not None:
                logits = logits - (-noise[:, place].log()).log()
            token = torch.where(ended, self.modality.stop, logits.argmax(-1, keepdim=True))
            ended = token == self.modality.stop
            written.append(token)
        return torch.cat(written, 1)

    def noise_shape(self, latents: int) -> tuple[int, int]:
        """The shape of the noise for one example: a uniform number for each place and token."""
        return self.modality.length, self.modality.stop + 1


def write_graph(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    """Write a module as one file, ONNX or a program of torch.export; the first axis of inputs and outputs is dynamic.

    Args:
        module: the module to trace.
        inputs: example inputs, by name.
        outputs: names of the outputs; those of a program are in this order, without names.
        path: the file, which ends in ``.onnx`` or ``.pt2``.

    Raises:
        MissingDependencyError: ONNX without the extra ``export``. QueryError: the network has operations that such
            a file cannot represent.
    """
    onnx = path.suffix == ".onnx"
    if onnx:
        require_extra("onnxscript", "export", "ONNX files")
    rows = torch.export.Dim("rows", min=1)
    shapes: dict[str, Any] = {name: {0: rows} for name in inputs}
    try:
        with torch.no_grad(), _quiet():
            write = _onnx(module, inputs, outputs, shapes) if onnx else _program(module, inputs, shapes)
    except Exception as error:
        cause = error.__cause__ or error  # the exporter's own message addresses its developers
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        what = "as ONNX" if onnx else "by torch.export"
        raise QueryError(f"{path.name} cannot be written {what}: {reason}") from error
    write_whole(path, write)


def _onnx(
    module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], shapes: dict[str, Any]
) -> Callable[[Path], object]:
    program = torch.onnx.export(
        module,
        kwargs=inputs,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return lambda file: program.save(str(file), external_data=False)


def _program(module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, Any]) -> Callable[[Path], object]:
    archive = io.BytesIO()  # a file would have to end in .pt2 even while it is written
    torch.export.save(torch.export.export(module, (), inputs, dynamic_shapes=shapes), archive)
    return lambda file: file.write_bytes(archive.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' messages to their developers."""
    logger: Any = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
