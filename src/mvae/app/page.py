"""The page: an input for each modality, and the model's draws of each, given those that are set."""

import html
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mvae.app.answers import MOST_DRAWS, Oracle
from mvae.app.drawing import drawing, read_drawing
from mvae.app.values import MOST_BYTES, example_of, parsed, read_picture
from mvae.data.tables.numbers import short
from mvae.errors import QueryError, UserError, require_extra
from mvae.report.views import View

__all__ = ["page", "theme"]

DRAWS = 12
FORMATS = [".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"]


def _gradio() -> Any:
    return require_extra("gradio", "app", "pages")


def theme() -> Any:
    """A theme with fonts of the visitor's own machine: the default ones come from a network."""
    return _gradio().themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def page(oracle: Oracle) -> Any:
    """The page as Gradio's blocks; each visitor's inputs are sent with each query, and nothing is stored."""
    gradio = _gradio()
    with gradio.Blocks(analytics_enabled=False, title=f"mvae: {oracle.name}") as blocks:
        gradio.Markdown(
            f"# {_text(oracle.name)}\nSet what you know, clear what you do not. The rest is drawn from the model."
        )
        with gradio.Row():
            with gradio.Column(min_width=300):
                inputs: list[tuple[View, list[Any]]] = []
                for view in oracle.views.values():
                    if view.name in oracle.model.answerable:
                        with gradio.Group():
                            inputs.append((view, _inputs(gradio, view, oracle.class_names(view))))
                clear = gradio.Button("Clear everything")
            with gradio.Column(min_width=300):
                status = gradio.Markdown("", elem_id="status")
                outputs = [_output(gradio, view) for view, _ in inputs]
        parts = [part for _, own in inputs for part in own]
        places = [(view, len(own)) for view, own in inputs]

        def ask(*values: Any) -> list[Any]:
            return _answered(gradio, oracle, places, list(values))

        common = {"outputs": [status, *outputs], "show_progress": "hidden", "api_visibility": "private"}
        for part in parts:
            gradio.on([part.change], ask, inputs=parts, trigger_mode="always_last", **common)
        blocks.load(ask, inputs=parts, **common)
        clear.click(lambda: [_empty(part) for part in parts], outputs=parts, api_visibility="private")
    return blocks


def _inputs(gradio: Any, view: View, names: Sequence[str]) -> list[Any]:
    """The inputs of one modality (``names`` are its classes); if they are empty, it is not given."""
    name = view.name
    if view.kind == "picture":
        upload = {"label": f"{name}: upload a picture", "file_types": FORMATS, "type": "filepath", "height": 150}
        if view.shape[0] != 1:
            return [gradio.File(**upload)]
        return [drawing(view), gradio.File(**upload)]
    if view.kind == "classes":
        return [gradio.Dropdown(label=name, choices=["", *names], value="")]
    if view.kind == "table":
        return [
            gradio.Dropdown(label=field.name, choices=["", *field.classes], value="")
            if field.kind == "classes"
            else gradio.Textbox(label=field.name, placeholder=example_of(field), max_length=50)
            for field in view.fields
        ]
    if view.kind == "flags":
        return [
            gradio.Checkbox(label=f"{name} is known", value=False),
            gradio.CheckboxGroup(label=f"{name}: what is true", choices=list(view.columns)),
        ]
    if view.kind == "text":
        return [gradio.Textbox(label=name, max_length=2000, interactive=view.write is not None)]
    return [
        gradio.Textbox(
            label=f"{name}: {', '.join(view.columns)}", placeholder="numbers, separated by commas", max_length=2000
        )
    ]


def _output(gradio: Any, view: View) -> Any:
    """The component that shows one modality's draws."""
    if view.kind == "picture":
        return gradio.HTML(label=view.name)
    if view.kind in ("classes", "flags"):
        return gradio.Label(label=view.name, num_top_classes=10)
    if view.kind == "text":
        return gradio.Textbox(label=view.name, interactive=False, lines=4)
    headers = ["", "most likely" if view.kind == "table" else "median", "5 %", "95 %"]
    return gradio.Dataframe(label=view.name, headers=headers, interactive=False, datatype="str")


def _answered(gradio: Any, oracle: Oracle, places: list[tuple[View, int]], values: list[Any]) -> list[Any]:
    """The status line above the answers, and every answer."""
    row: dict[str, Tensor] = {}
    texts: dict[str, str] = {}
    try:
        for view, count in places:
            own, values = values[:count], values[count:]
            value = _read(oracle, view, own)
            if value is not None:
                row[view.name] = value
                texts |= {view.name: own[0]} if view.kind == "text" else {}
        pictures = [view.name for view, _ in places if view.kind == "picture"]
        others = [view.name for view, _ in places if view.kind != "picture"]
        found = oracle.answer(row, pictures, DRAWS)
        answers = found["answers"] | oracle.answer(row, others, MOST_DRAWS)["answers"]
    except UserError as error:
        raise gradio.Error(_text(str(error)), print_exception=False) from None
    named = [part for view, _ in places if view.name in row for part in _given(view, row[view.name])]
    given = f"Given: **{_text(', '.join(named))}**" if row else "Nothing is given: draws from the prior"
    nats = found["information"]
    sure = "" if nats is None or not row else f". Information about the latents: {nats:.1f} nats (0: none)."
    strange = oracle.unknown_words(texts)
    unread = f". Words that the model does not know: {_text(', '.join(strange))}" if strange else ""
    return [given + unread + sure, *(_shown(view, answers[view.name]) for view, _ in places)]


def _given(view: View, row: Tensor) -> list[str]:
    """The names of what is set: the modality's, or those of its columns."""
    if view.kind != "table":
        return [view.name]
    return [field.name for field, value in zip(view.fields, row[0].tolist(), strict=True) if value == value]


def _read(oracle: Oracle, view: View, own: list[Any]) -> Tensor | None:
    """A modality's inputs as a row; None if it is not set."""
    if view.kind == "picture":
        drawn, upload = (own[0], own[1]) if len(own) == 2 else (None, own[0])
        if upload:
            if os.path.getsize(upload) > MOST_BYTES:
                raise QueryError(f"a picture file may have at most {MOST_BYTES // 2**20} MB")
            with open(upload, "rb") as file:
                return read_picture(view, file.read())
        return read_drawing(view, drawn)
    if view.kind == "flags":
        return parsed(view, list(own[1] or [])) if own[0] else None
    if view.kind == "table":
        given = {field.name: value for field, value in zip(view.fields, own, strict=True) if value not in (None, "")}
        return parsed(view, given) if given else None
    if own[0] in (None, ""):
        return None
    return parsed(view, own[0], oracle.codecs.get(view.name))


def _shown(view: View, answer: dict[str, Any]) -> Any:
    """A modality's answer in the form that its component takes."""
    if view.kind == "picture":
        alt = html.escape(f"a draw of {view.name}", quote=True)
        images = "".join(
            f'<img src="{source}" alt="{alt}" width="72" style="image-rendering:pixelated;display:inline;margin:2px">'
            for source in answer["draws"]
        )
        return f"<p>{_text(view.name)}</p>{images}"
    if view.kind in ("classes", "flags"):
        return answer.get("shares", {})
    if view.kind == "text":
        return "\n".join(text for text, _ in Counter(answer["draws"]).most_common())
    if view.kind == "table":
        return [[name, *_of_field(own)] for name, own in answer["columns"].items()]
    return [[name, *(round(answer[key][name], 4) for key in ("median", "5 %", "95 %"))] for name in view.columns]


def _of_field(own: dict[str, Any]) -> list[str]:
    """A column's answer: the class drawn most often with its share, or the median and the middle 90 %."""
    if "shares" in own:
        word, share = next(iter(own["shares"].items()))
        return [word, f"{share:.0%} of draws", ""]
    return [own[key] if isinstance(own[key], str) else short(own[key]) for key in ("median", "5 %", "95 %")]


def _empty(part: Any) -> Any:
    """A cleared input."""
    kind = type(part).__name__
    return {"Dropdown": "", "HTML": "", "Textbox": "", "Checkbox": False, "CheckboxGroup": []}.get(kind)


def _text(value: str) -> str:
    """Escape text for Markdown and HTML."""
    escaped = html.escape(value)
    return "".join(f"\\{c}" if c in "*_`[]#" else c for c in escaped) if "&" not in escaped else escaped
