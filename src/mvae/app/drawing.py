"""A canvas that sends its drawing as soon as the pen lifts, as one small PNG."""

import html
from typing import Any

import numpy as np
from torch import Tensor

from mvae.app.values import decoded, file_in
from mvae.errors import QueryError, require_extra
from mvae.report.grid import picture_row
from mvae.report.views import View

__all__ = ["drawing", "read_drawing"]

SIDE = 280  # pixels of the canvas
TEMPLATE = """<p>{name}: draw</p>
<canvas width="{side}" height="{side}" aria-label="{name}: draw" style="background:#fff;border:1px solid #888;\
max-width:100%;touch-action:none;cursor:crosshair"></canvas>
<p><button type="button" style="border:1px solid #888;border-radius:4px;padding:2px 10px">\
Clear the drawing of {name}</button></p>"""
SCRIPT = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d')
let down = false
const clean = () => pen.clearRect(0, 0, canvas.width, canvas.height)
const at = event => {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]
}
canvas.addEventListener('pointerdown', event => {
    down = true
    canvas.setPointerCapture(event.pointerId)
    pen.lineWidth = canvas.width / 12
    pen.lineCap = pen.lineJoin = 'round'
    pen.beginPath()
    pen.moveTo(...at(event))
    pen.lineTo(...at(event))
    pen.stroke()
})
canvas.addEventListener('pointermove', event => {
    if (!down) return
    pen.lineTo(...at(event))
    pen.stroke()
})
const lifts = () => {
    if (!down) return
    down = false
    props.value = canvas.toDataURL('image/png')
}
canvas.addEventListener('pointerup', lifts)
canvas.addEventListener('pointercancel', lifts)
element.querySelector('button').addEventListener('click', () => { clean(); props.value = '' })
watch('value', () => { if (!props.value) clean() })
"""


def drawing(view: View) -> Any:
    """The canvas of a picture with one channel; its value is a PNG as a data URI, empty if nothing is drawn."""
    gradio = require_extra("gradio", "app", "pages")
    name = "".join(f"&#{ord(c)};" if c in "${}`\\" else c for c in html.escape(view.name))  # a template fills these in
    template = TEMPLATE.format(name=name, side=SIDE)
    return gradio.HTML(value="", html_template=template, js_on_load=SCRIPT)


def read_drawing(view: View, value: str | None) -> Tensor | None:
    """A drawing's ink as bright levels on dark ones; None if nothing is drawn.

    Raises:
        QueryError: the value is not what the canvas sends.
    """
    from PIL import Image

    if not value:
        return None
    try:
        with decoded(file_in(value), SIDE**2) as picture:
            ink = np.asarray(picture.convert("RGBA"))[..., 3]
    except ValueError:  # a QueryError is one
        raise QueryError(f"{view.name}: this is not a drawing of the page's canvas") from None
    return picture_row(Image.fromarray(ink, "L"), view.shape) * view.levels if ink.any() else None
