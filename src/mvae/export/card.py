"""The model card of an exported model: its data, its intended use, its metrics and its limits."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]

USES = {
    "onnx": "`example.py` answers without PyTorch (`pip install numpy onnxruntime`, then `python example.py`); ",
    "torch": "`torch.export.load(FILE).module()(z=..., noise=...)` needs PyTorch alone (encoders: `x=`); ",
}
LIMITS = """\
- It models rows like those it was trained on, and does not recognise rows from elsewhere.
- Values that are missing for reasons that depend on the values themselves bias it.
- Densities can be compared only for the same modalities, rows and units.
- It was not examined for harm to persons. Do not use it for decisions about people without such an examination.
"""


def model_card(described: Mapping[str, Any], metrics: Mapping[str, float], about: Mapping[str, Any]) -> str:
    """A ``README.md`` in the form that model hubs read: a header in YAML, then Markdown.

    Args:
        described: contents of model.json.
        metrics: metrics of the validation rows, by name.
        about: command, commit, versions and data source.
    """
    names = ", ".join(_text(part["name"]) for part in described["modalities"])
    parts = [
        f"---\nlibrary_name: mvae\ntags:\n- multimodal\n- variational-autoencoder\n- {described['graphs']}\n---\n",
        "# Model card\n",
        f"A multimodal variational autoencoder ({described['model']}, {described['latents']} latents) of {names}. "
        "From any subset of these it samples, predicts and completes the others.\n",
        "## Data\n",
        f"Trained on {_text(about.get('source', 'unknown'))}.\n",
        _table(["modality", "kind", "shape", "units or classes"], [_row(part) for part in described["modalities"]]),
        "## Intended use\n",
        "Filling in, predicting and generating modalities of rows in which some are missing. "
        + USES[described["graphs"]]
        + "`mvae.load(FOLDER)` gives the model in Python.\n",
        f"How evidence is combined: {described['posterior']}\n",
        "## Metrics\n",
        "On validation rows at the epoch of these weights, in nats per example unless they are shares.\n",
        _table(["metric", "value"], [[name, f"{value:.4g}"] for name, value in metrics.items()])
        if metrics
        else "None.\n",
        "## Limits\n",
        LIMITS,
    ]
    if described["left_out"]:
        parts.append("- Not in this folder's graphs: " + "; ".join(map(_text, described["left_out"])) + ".\n")
    circumstances = [[n, str(about[n])] for n in ("command", "commit", "mvae", "torch", "device") if n in about]
    parts += ["## How it was made\n", _table(["", ""], circumstances)]
    parts += ["To publish this folder: `hf upload USER/NAME FOLDER` of the package `huggingface_hub`.\n"]
    return "\n".join(parts)


def _row(part: Mapping[str, Any]) -> list[str]:
    shape = "×".join(map(str, part["shape"])) or "one value"
    units = part.get("classes") or part.get("columns") or []
    listed = ", ".join(map(str, units[:12])) + (" …" if len(units) > 12 else "")
    levels = f"levels 0 to {part['levels']:g}" if "levels" in part else ""
    return [part["name"], part["kind"], shape, listed or levels]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines) + "\n"


def _text(value: object) -> str:
    """Text escaped for Markdown and HTML."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return text.translate({ord(character): f"\\{character}" for character in "\\`*_[]|"})
