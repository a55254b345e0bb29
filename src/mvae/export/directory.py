"""Exports a run as a folder for other programs: graphs, model.json, an example, the model itself and its card."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch

from mvae.data.fields import CLASSED
from mvae.errors import QueryError, RunError
from mvae.export.card import model_card
from mvae.export.draws import undrawn
from mvae.export.graphs import ROWS, Decoder, Encoder, StringDecoder, input_dtype, write_graph
from mvae.export.rule import Rule, posterior_rule
from mvae.export.sentences import SentenceDecoder, with_padded_sentences
from mvae.files import write_json, write_text
from mvae.gaussian import Gaussian
from mvae.likelihoods.counts import Counts
from mvae.modality.base import Modality
from mvae.modality.columns import ColumnsModality
from mvae.modality.sentences import SentenceModality
from mvae.modality.strings import StringModality
from mvae.models.base import MultimodalVAE
from mvae.provenance import installed_version
from mvae.runs.config import Config
from mvae.runs.run import opened_model, read_run
from mvae.runs.saving import EXPORTED, save
from mvae.runs.sections import ModalitySettings
from mvae.training.checkpoint import best_weights, read_metrics

__all__ = ["export_model", "export_run"]

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
GRAPHS = ("encoder", "encoder_alone", "decoder")  # the entries of a modality in `model.json` that name files
CODED = (*CLASSED, "binary")  # kinds of columns whose numbers are codes


def export_run(run_dir: str | Path, directory: str | Path, graphs: Format = "onnx") -> Path:
    """Export a run's best model; its data is not needed.

    Args:
        run_dir: directory of the run.
        directory: folder for the files; it is created if it is missing.
        graphs: "onnx", or "torch" for programs of torch.export, which need PyTorch but not mvae.

    Returns:
        The directory. It holds ``model.json``, an encoder and a decoder of each modality as ``.onnx`` or ``.pt2``,
        ``README.md`` (the model card), ``model.mvae`` (which `mvae.load` reads), and with ONNX ``example.py``.

    Raises:
        RunError: not a run, a directory that cannot be written, or one with other files of the same names. QueryError:
            a model whose posterior or networks need more than the graphs can hold. MissingDependencyError: the extra
            ``export`` is not installed.
    """
    run_dir, directory = Path(run_dir), Path(directory)
    config, stored = read_run(run_dir)
    taken = [name for name in ("README.md", "example.py", "model.json") if (directory / name).exists()]
    if taken and not (directory / EXPORTED).exists():
        raise RunError(f"{directory} has {' and '.join(taken)}, not from an earlier export: choose another directory")
    model = opened_model(run_dir).cpu()
    described = export_model(model, config, directory, stored, graphs)
    rows, best_epoch = read_metrics(run_dir), best_weights(run_dir)[1].best_epoch
    best = next((row for row in rows if row["epoch"] == best_epoch), rows[-1] if rows else {})
    kept = ("validation/objective", "validation/reconstruction", "validation/accuracy", "validation/coupling")
    metrics = {name.removeprefix("validation/"): value for name, value in best.items() if name.startswith(kept)}
    sources = ", ".join(Path(source).name for source in config.data.sources)
    card = model_card(described, metrics, dict(stored) | {"source": sources})
    write_text(directory / "README.md", card)
    return directory


def export_model(
    model: MultimodalVAE, config: Config, directory: Path, stored: Mapping[str, Any], graphs: Format = "onnx"
) -> dict[str, Any]:
    """Write everything but the card, and return the contents of ``model.json``.

    Args:
        model: a model in evaluation mode, on the CPU.
        config: the declaration that it was built from.
        directory: folder for the files.
        stored: ``schema`` and ``layout`` from ``run.json``: how a file's columns were encoded.
        graphs: as for `export_run`.

    Raises:
        As for `export_run`.
    """
    padded = with_padded_sentences(model)
    rule = posterior_rule(padded)
    parts, left_out = [], []
    columns = (stored.get("layout") or {}).get("columns", ())
    named = {column.get("name"): column.get("classes") for column in columns}
    for number, name in enumerate(model.names):
        modality, own = model.modalities[name], config.modalities[name]
        if name not in model.answerable:
            left_out.append(f"{name} was never trained")
            continue
        schema = (stored.get("schema") or {}).get(name) or {}
        parts.append(_part(padded, rule, name, number, own, directory, schema, SUFFIX[graphs]))
        if isinstance(modality, ColumnsModality):
            parts[-1] |= _columns(modality, named)
        elif isinstance(modality, SentenceModality) and own.columns and (words := named.get(own.columns[0])):
            parts[-1]["words"] = list(words)  # in the order of their numbers; a corpus's are not stored with a run
    if model.prior is not None:
        left_out.append("the prior that was fitted: with nothing given, z is from N(0, I)")
    if not parts:
        raise QueryError(f"nothing can be exported: {'; '.join(left_out)}")
    described = {
        "format": 1,
        "graphs": graphs,
        "mvae": installed_version(),
        "model": type(model).__name__,
        "latents": model.latent_dim,
        "combine": rule.combine,
        "prior_precision": [1.0, *rule.prior_precision[: 1 if rule.combine == "one" else 2]],
        "posterior": rule.text,
        "modalities": parts,
        "left_out": left_out,
    }
    earlier = _graphs_in(directory) if (directory / EXPORTED).exists() else []
    save(model, directory / EXPORTED)  # first: it marks the directory as an export
    write_json(directory / "model.json", described)
    if graphs == "onnx":
        example = files("mvae.export").joinpath("example.py.txt").read_text(encoding="utf-8")
        write_text(directory / "example.py", example)
    elif earlier:
        (directory / "example.py").unlink(missing_ok=True)
    own = {part[graph] for part in parts for graph in GRAPHS}
    for file in earlier:
        if file.name not in own:  # of another format, or of a model with more modalities
            file.unlink()
    return described


def _graphs_in(directory: Path) -> list[Path]:
    """The files of an export's graphs, of either format."""
    found = *directory.glob("encoder-[0-9]*"), *directory.glob("decoder-[0-9]*")
    return [file for file in found if file.suffix in SUFFIX.values()]


@torch.no_grad()
def _part(
    model: MultimodalVAE,
    rule: Rule,
    name: str,
    number: int,
    own: ModalitySettings,
    directory: Path,
    schema: Mapping[str, Any],
    suffix: str,
) -> dict[str, Any]:
    """Write the graphs of one modality, and describe their inputs and outputs."""
    modality = model.modalities[name]
    shape, dtype = _event(modality, own), input_dtype(model, name)
    classes = own.classes if dtype is torch.int64 and not shape else None
    tokens = isinstance(modality, StringModality | SentenceModality)
    decoder = _decoder(modality).eval()
    file = {what: f"{what}-{number}{suffix}" for what in ("encoder", "decoder")}
    encoders: dict[str, Callable[..., Gaussian] | None] = {file["encoder"]: None}
    file["encoder_alone"] = file["encoder"] if rule.alone is None else f"encoder-{number}-alone{suffix}"
    if rule.alone is not None:
        encoders[file["encoder_alone"]] = rule.alone.encode
    example = {"x": torch.zeros(ROWS, *shape, dtype=dtype)}
    for path, encode in encoders.items():
        encoder = Encoder(model, name, classes, encode).eval()
        write_graph(encoder, example, ["precision", "shift"], directory / path)
    inputs, outputs = {"z": torch.zeros(ROWS, model.latent_dim)}, ["greedy" if tokens else "mean"]
    noise_shape = decoder.noise_shape(model.latent_dim)
    if decoder.noise is not None:
        inputs["noise"] = torch.full((ROWS, *noise_shape), 0.5)
        outputs.append("draw")
    write_graph(decoder, inputs, outputs, directory / file["decoder"])
    likelihood = modality.likelihood
    said: dict[str, Any] = {
        "name": name,
        "kind": own.kind,
        "likelihood": type(likelihood).__name__,
        "shape": shape,
        "dtype": str(dtype).removeprefix("torch."),
        **file,
        "noise": decoder.noise,
        "noise_shape": list(noise_shape),
    }
    if own.kind == "picture":
        said["levels"] = likelihood.levels
    if isinstance(likelihood, Counts) and likelihood.exposure:
        said["typical_total"] = float(likelihood.typical)  # means are for this total: scale them to a row's own
    if own.columns or own.kind in ("real", "binary"):
        said["columns"] = own.columns or [name]
    if isinstance(modality, SentenceModality):
        said["tokens"] = own.classes
    elif classes := schema.get("classes") or (list(range(own.classes)) if own.classes else None):
        said["classes"] = list(classes)
    if isinstance(modality, StringModality | SentenceModality):
        said["stop"] = modality.stop  # the token that ends a row and pads it
    return said


def _decoder(modality: Modality) -> Decoder | StringDecoder | SentenceDecoder:
    if isinstance(modality, StringModality):
        return StringDecoder(modality)
    return SentenceDecoder(modality) if isinstance(modality, SentenceModality) else Decoder(modality)


def _event(modality: Modality, own: ModalitySettings) -> list[int]:
    """The shape of one example."""
    if isinstance(modality, ColumnsModality):
        return [len(modality.fields)]
    if isinstance(modality, StringModality | SentenceModality):
        return [modality.length]
    return list(own.shape or [])


def _columns(modality: ColumnsModality, named: Mapping[str, Any]) -> dict[str, Any]:
    """The meaning of the columns in a modality of columns; ``named``: column of the file → its classes."""
    classed = {f.name: named.get(f.name) or list(range(f.classes or 2)) for f in modality.fields if f.kind in CODED}
    return {
        "columns": list(modality.names),
        "kinds": [field.kind for field in modality.fields],
        "categories": classed,
        "undrawn": undrawn(modality.likelihood),
        "missing": "NaN is missing; categories are numbers, their places in the list; dates are seconds since 1970",
    }
