"""A run as a folder that other programs can use: ONNX graphs, model.json, an example, the model itself and its card."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from mvae.data.fields import CLASSED
from mvae.errors import QueryError
from mvae.export.card import model_card
from mvae.export.graphs import ROWS, Decoder, Encoder, input_dtype, write_graph
from mvae.files import write_json, write_whole
from mvae.gaussian import Gaussian
from mvae.modality.columns import ColumnsModality
from mvae.modality.sentences import SentenceModality
from mvae.modality.strings import StringModality
from mvae.models.base import MultimodalVAE
from mvae.models.plan import Experts, anything
from mvae.provenance import installed_version
from mvae.runs.config import Config, ModalitySettings
from mvae.runs.run import opened_model, read_run
from mvae.runs.saving import EXPORTED, save
from mvae.training.checkpoint import best_weights, read_metrics

__all__ = ["export_model", "export_run", "posterior_rule"]

CODED = (*CLASSED, "binary")  # columns of codes

RULES = {
    (
        1.0,
        True,
    ): "q(z | given) is the product of the prior N(0, I) and of one Gaussian expert for each modality that is "
    "given. Each encoder gives its expert's precision and precision times mean. Add those of all that is given; add 1 "
    "to the precision, for the prior. The posterior's mean is the second sum over the first, its variance 1 over the "
    "first. With nothing given it is the prior. Draw z from it and run decoders.",
    (0.0, True): "q(z | given) is the product of one Gaussian expert for each modality that is given, without a prior. "
    "Each encoder gives its expert's precision and precision times mean; add them. The mean is the second sum over the "
    "first, the variance 1 over the first. With nothing given z is drawn from N(0, I).",
    (0.0, False): "q(z | given) is the Gaussian of the one modality that is given: its encoder gives precision and "
    "precision times mean. Give one modality at a time; this model's encoder of all of them together is not exported. "
    "With nothing given z is drawn from N(0, I).",
}


def export_run(run_dir: str | Path, directory: str | Path) -> Path:
    """Export a run's best model; its data is not needed.

    Args:
        run_dir: of the run.
        directory: where the files go; it is made where it is missing.

    Returns:
        The directory. It holds ``model.json``, an encoder and a decoder of each modality as ``.onnx``, ``example.py``,
        ``README.md`` (the model card) and ``model.mvae``, from which `mvae.load` makes the model.

    Raises:
        RunError: not a run, or a directory that cannot be written. QueryError: a model whose answers are no product of
            Gaussians. MissingDependencyError: the extra ``export`` is absent.
    """
    run_dir, directory = Path(run_dir), Path(directory)
    config, stored = read_run(run_dir)
    model = opened_model(run_dir).cpu()
    described = export_model(model, config, directory, stored)
    rows, best_epoch = read_metrics(run_dir), best_weights(run_dir)[1].best_epoch
    best = next((row for row in rows if row["epoch"] == best_epoch), rows[-1] if rows else {})
    kept = ("validation/objective", "validation/reconstruction", "validation/accuracy", "validation/coupling")
    metrics = {name.removeprefix("validation/"): value for name, value in best.items() if name.startswith(kept)}
    sources = ", ".join(Path(source).name for source in config.data.sources)
    card = model_card(described, metrics, dict(stored) | {"source": sources})
    _write_text(directory / "README.md", card)
    return directory


def export_model(model: MultimodalVAE, config: Config, directory: Path, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Write everything but the card, and return what ``model.json`` says.

    Args:
        model: in evaluation mode, on the CPU.
        config: what it was built from.
        directory: where the files go.
        stored: ``schema`` and ``layout``, how a file's columns were encoded, as ``run.json`` has them.

    Raises:
        As `export_run`.
    """
    prior, several = posterior_rule(model)
    parts, left_out = [], []
    for number, name in enumerate(model.names):
        modality = model.modalities[name]
        if isinstance(modality, StringModality | SentenceModality):
            left_out.append(f"{name} is written token by token, which these graphs do not")
            continue
        if name not in model.answerable:
            left_out.append(f"{name} was never trained")
            continue
        schema = (stored.get("schema") or {}).get(name) or {}
        parts.append(_part(model, name, number, config.modalities[name], directory, schema))
        if isinstance(modality, ColumnsModality):
            parts[-1] |= _columns(modality, stored.get("layout") or {})
    if not parts:
        raise QueryError(f"nothing can be exported: {'; '.join(left_out)}")
    described = {
        "format": 1,
        "mvae": installed_version(),
        "model": type(model).__name__,
        "latents": model.latent_dim,
        "prior_precision": prior,
        "several": several,
        "posterior": RULES[prior, several],
        "modalities": parts,
        "left_out": left_out,
    }
    write_json(directory / "model.json", described)
    save(model, directory / EXPORTED)
    _write_text(directory / "example.py", files("mvae.export").joinpath("example.py.txt").read_text(encoding="utf-8"))
    return described


def posterior_rule(model: MultimodalVAE) -> tuple[float, bool]:
    """The prior's precision in a posterior, and whether experts of several modalities are multiplied.

    Raises:
        QueryError: the posterior is no product of the experts.
    """
    count = len(model.names)
    if model.context_dim:
        raise QueryError(f"a {type(model).__name__} takes a condition besides z, which is not exported: export an MVAE")
    if count > 1 and model.mixed(torch.ones(1, count, dtype=torch.bool)) is not None:
        raise QueryError(
            f"the posterior of a {type(model).__name__} is a mixture, which is not exported: export an MVAE"
        )
    single = next(encoder for encoder in model.encoders if isinstance(encoder, Experts))
    if single.encode is not None:
        raise QueryError(f"a {type(model).__name__} has encoders of its own beside its modalities': export an MVAE")
    experts = Gaussian(torch.full((count, 1, 1), 2.0), torch.zeros(count, 1, 1))
    prior = float(single.combine(experts, torch.eye(1, count).bool()[None]).precision) - 2.0
    return prior, single.used is anything


@torch.no_grad()
def _part(
    model: MultimodalVAE, name: str, number: int, own: ModalitySettings, directory: Path, schema: Mapping[str, Any]
) -> dict[str, Any]:
    """One modality: its two graphs, and what they take and give."""
    modality = model.modalities[name]
    shape = [] if own.kind == "categorical" and own.shape is None else list(own.shape or [])
    shape = [len(modality.fields)] if isinstance(modality, ColumnsModality) else shape
    dtype = input_dtype(model, name)
    encoder = Encoder(model, name, own.classes if dtype is torch.int64 and not shape else None).eval()
    decoder = Decoder(model, name).eval()
    file = {"encoder": f"encoder-{number}.onnx", "decoder": f"decoder-{number}.onnx"}
    example = torch.zeros(ROWS, *shape, dtype=dtype)
    write_graph(encoder, {"x": example}, ["precision", "shift"], directory / file["encoder"])
    inputs, outputs = {"z": torch.zeros(ROWS, model.latent_dim)}, ["mean"]
    noise_shape = decoder.noise_shape(model.latent_dim)
    if decoder.draw is not None:
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
        "noise": None if decoder.draw is None else decoder.draw.noise,
        "noise_shape": list(noise_shape),
    }
    if own.kind == "picture":
        said["levels"] = likelihood.levels
    if own.columns or own.kind in ("real", "binary"):
        said["columns"] = own.columns or [name]
    if classes := schema.get("classes") or (list(range(own.classes)) if own.classes else None):
        said["classes"] = list(classes)
    return said


def _columns(modality: ColumnsModality, layout: Mapping[str, Any]) -> dict[str, Any]:
    """What the columns of a modality of columns mean."""
    named = {column.get("name"): column.get("classes") for column in layout.get("columns", ())}
    classed = {f.name: named.get(f.name) or list(range(f.classes or 2)) for f in modality.fields if f.kind in CODED}
    return {
        "columns": list(modality.names),
        "kinds": [field.kind for field in modality.fields],
        "categories": classed,
        "missing": "NaN is missing; categories are numbers, the places in their list; dates are seconds since 1970",
    }


def _write_text(path: Path, text: str) -> None:
    def write(file: Path) -> None:
        file.write_text(text, encoding="utf-8")

    write_whole(path, write)
