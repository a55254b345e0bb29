"""Drawn faces: 64×64 RGB, with CelebA's 18 attributes visibly drawn, for tests and for users without CelebA.

Each face is drawn from its own seed, with a geometry that is known exactly (`landmarks`). If CelebA is available, no
result on drawn faces counts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from mvae.data.cache import cached_array
from mvae.data.dataset import Dataset
from mvae.data.download import cache_directory
from mvae.paper.attributes import ATTRIBUTES, Pictures

SIDE = 64
FINE = 4  # drawn this much larger and averaged down, so that edges are smooth
ROWS = {"train": 4_000, "validation": 500, "test": 500}
VERSION = 1  # of the drawing: part of the cache's name

Colour = tuple[int, int, int]
Polygon = np.ndarray  # points x y, in pixels of the 64×64 image

HAIR = {"Black_Hair": (28, 24, 28), "Blond_Hair": (242, 210, 66), "Brown_Hair": (112, 66, 30), "Gray_Hair": (168,) * 3}
RED_HAIR = (178, 74, 32)  # of faces with none of the four
SKINS = ((224, 170, 138), (202, 146, 108), (172, 116, 76), (140, 92, 60))
PALE = (252, 234, 226)
DARK = (40, 30, 32)


@dataclass(frozen=True)
class Face:
    """The contents of one drawing: attributes by name, colours, and the place and size of the face in pixels."""

    attributes: dict[str, bool]
    skin: Colour
    hair: Colour
    background: Colour
    clothing: Colour
    x: float  # centre of the face
    y: float
    width: float  # half of it, at the cheeks
    height: float  # half of it, from forehead to chin


def face(row: int, seed: int = 0) -> Face:
    """The face of that row; its attributes co-occur roughly as often as in life."""
    random = np.random.RandomState([seed, row])  # not default_rng: NumPy promises that this stream never changes

    def happens(probability: float) -> bool:
        return bool(random.rand() < probability)

    def choice(colours: Sequence[Colour]) -> Colour:
        return colours[random.randint(len(colours))]

    has: dict[str, bool] = dict.fromkeys(ATTRIBUTES, False)
    male = has["Male"] = happens(0.45)
    has["Bald"] = happens(0.16 if male else 0.01)
    has["Wearing_Hat"] = not has["Bald"] and happens(0.12)
    colour = [*HAIR, None][random.choice(5, p=[0.28, 0.2, 0.24, 0.14, 0.14])]
    if colour and not has["Bald"]:
        has[colour] = True
    free = not (has["Bald"] or has["Wearing_Hat"])
    has["Bangs"] = free and happens(0.12 if male else 0.35)
    has["Receding_Hairline"] = free and not has["Bangs"] and happens(0.3 if male else 0.05)
    texture = random.rand()
    has["Straight_Hair"] = not has["Bald"] and texture < 0.35
    has["Wavy_Hair"] = not has["Bald"] and texture > (0.75 if male else 0.55)
    has["Heavy_Makeup"] = happens(0.02 if male else 0.55)
    has["Mustache"] = male and happens(0.3)
    for name, probability in (
        ("Bushy_Eyebrows", 0.3),
        ("Eyeglasses", 0.2),
        ("Mouth_Slightly_Open", 0.45),
        ("Pale_Skin", 0.2),
        ("Smiling", 0.5),
    ):
        has[name] = happens(probability)
    return Face(
        has,
        skin=PALE if has["Pale_Skin"] else choice(SKINS),
        hair=HAIR[colour] if colour else RED_HAIR,
        background=tuple(int(v) for v in random.randint(90, 215, 3)),  # pyright: ignore[reportArgumentType]
        clothing=choice(((60, 90, 150), (70, 110, 80), (110, 60, 110), (150, 70, 60), (60, 60, 70))),
        x=32 + random.uniform(-2.5, 2.5),
        y=35 + random.uniform(-1.5, 1.5),
        width=random.uniform(14.0, 16.5) + (0.8 if male else 0),
        height=random.uniform(18.5, 20.5),
    )


def landmarks(row: int) -> dict[str, Polygon]:
    """The parts of that row's face as polygons: ``face``, ``left eye``, ``right eye``, ``nose`` and ``mouth``.

    Points are ``x y`` in pixels of the 64×64 image; left is the left of the picture.

    >>> landmarks(0)["mouth"].shape
    (24, 2)
    """
    return _polygons(face(row))


def _polygons(f: Face) -> dict[str, Polygon]:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    across, down = np.cos(angle), np.sin(angle)
    # A man's jaw is square: the lower half is wider than an ellipse. A woman's chin is narrow.
    below = np.clip(down, 0, None)
    narrowed = across * (1 - 0.22 * below**2)
    squared = np.sign(across) * np.abs(across) ** (1 - 0.42 * below)
    outline = np.stack([f.x + f.width * (squared if f.attributes["Male"] else narrowed), f.y + f.height * down], 1)
    apart, eye_y = 0.45 * f.width, f.y - 0.12 * f.height
    eyes = {side: _ellipse(f.x + sign * apart, eye_y, 3.0, 1.8) for side, sign in (("left eye", -1), ("right eye", 1))}
    tip = f.y + 0.26 * f.height
    nose = np.array([[f.x - 1.0, eye_y + 1.5], [f.x + 1.0, eye_y + 1.5], [f.x + 2.6, tip], [f.x - 2.6, tip]])
    return {"face": outline, **eyes, "nose": nose, "mouth": _mouth(f)}


def _mouth(f: Face) -> Polygon:
    """The outline of the lips: from left to right along the top, and back along the bottom."""
    half, y = (6.2 if f.attributes["Smiling"] else 4.4), f.y + 0.56 * f.height
    t = np.linspace(-1, 1, 12)
    curve = 3.0 * (1 - t**2) - 1.8 if f.attributes["Smiling"] else np.zeros(12)  # its corners are raised
    thick = 1.1 + (1.9 if f.attributes["Mouth_Slightly_Open"] else 0.0)
    bow = np.sqrt(np.clip(1 - t**2, 0, None))
    top, bottom = y + curve - thick * bow * 0.8, y + curve + thick * bow
    x = f.x + half * t
    return np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]])


def _ellipse(x: float, y: float, width: float, height: float) -> Polygon:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], 1)


def draw(f: Face) -> np.ndarray:
    """The picture of a face, bytes ``3 64 64``."""
    from PIL import Image, ImageDraw  # here, because importing them takes a tenth of a second

    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), f.background)
    pen = _Pen(ImageDraw.Draw(picture))
    has, shapes = f.attributes, _polygons(f)
    top = f.y - f.height
    _hair_behind(pen, f)
    _body(pen, f)
    pen.fill(shapes["face"], f.skin)
    for sign in (-1, 1):
        pen.fill(_ellipse(f.x + sign * f.width, f.y, 1.8, 3.2), f.skin)
    if has["Heavy_Makeup"]:
        for sign in (-1, 1):
            pen.fill(_ellipse(f.x + sign * 0.62 * f.width, f.y + 0.24 * f.height, 3.2, 2.2), (236, 98, 122))
    _hair_in_front(pen, f)
    _eyes(pen, f, shapes)
    pen.line([shapes["nose"][1], shapes["nose"][2], shapes["nose"][3]], _shade(f.skin, 0.72), 0.9)
    _mouth_and_mustache(pen, f, shapes)
    if has["Wearing_Hat"]:
        brim = top + 0.32 * f.height
        crown = [(f.x - 0.95 * f.width, brim), (f.x - 0.8 * f.width, top - 9), (f.x + 0.8 * f.width, top - 9)]
        pen.fill([*crown, (f.x + 0.95 * f.width, brim)], (190, 40, 50))
        pen.fill(_ellipse(f.x, brim, 1.5 * f.width, 2.6), (140, 20, 32))
        pen.line([(f.x - 0.92 * f.width, brim - 4), (f.x + 0.92 * f.width, brim - 4)], (245, 215, 90), 1.6)
    return np.asarray(picture.reduce(FINE)).transpose(2, 0, 1)


class _Pen:
    """Draws in pixel coordinates of the small picture."""

    def __init__(self, on: Any):
        self.on = on

    def fill(self, points: Sequence[Any] | Polygon, colour: Colour) -> None:
        self.on.polygon([(float(x) * FINE, float(y) * FINE) for x, y in points], fill=colour)

    def line(self, points: Sequence[Any] | Polygon, colour: Colour, width: float) -> None:
        scaled = [(float(x) * FINE, float(y) * FINE) for x, y in points]
        self.on.line(scaled, fill=colour, width=round(width * FINE), joint="curve")


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(level * factor)) for level in colour)
    return red, green, blue


def _facial_hair(f: Face) -> Colour:
    """A shade of the hair that can be seen on the skin."""
    if f.attributes["Bald"]:
        return DARK
    return max(
        (_shade(f.hair, factor) for factor in (0.4, 1.0, 1.3)), key=lambda c: max(np.abs(np.subtract(c, f.skin)))
    )


def _hair_behind(pen: _Pen, f: Face) -> None:
    """Draw the hair behind face and shoulders: long for women, short for men; its outline is wavy or straight."""
    if f.attributes["Bald"]:
        return
    male, wavy, straight = (f.attributes[name] for name in ("Male", "Wavy_Hair", "Straight_Hair"))
    pen.fill(_ellipse(f.x, f.y - 0.38 * f.height, 1.22 * f.width, 0.84 * f.height), f.hair)
    bottom = f.y + (0.05 if male else 0.95) * f.height
    wide = f.width * (1.18 if male else 1.34)
    upper = f.y - 0.4 * f.height
    if wavy:  # curls along both sides
        for sign in (-1, 1):
            for y in np.arange(upper - (9 if male else 4), bottom + 1, 4.2):
                pen.fill(_ellipse(f.x + sign * (wide - 0.2), y, 3.6, 3.0), f.hair)
        for x in np.linspace(-0.8, 0.8, 6):
            pen.fill(_ellipse(f.x + x * wide, f.y - (1.22 - 0.35 * x**2) * f.height, 3.4, 3.0), f.hair)
    flare = 1.06 if straight else 1.0
    pen.fill(
        [(f.x - wide, upper), (f.x + wide, upper), (f.x + flare * wide, bottom), (f.x - flare * wide, bottom)], f.hair
    )


def _body(pen: _Pen, f: Face) -> None:
    """Neck and shoulders: a man's are broad, with shirt and tie; a woman's neckline is round, with a necklace."""
    chin = f.y + f.height
    male = f.attributes["Male"]
    neck, shoulders = (8.5, 27.0) if male else (5.0, 19.0)
    pen.fill(_ellipse(f.x, chin + 13, shoulders, 11.5), f.clothing)
    pen.fill([(f.x - neck, chin - 6), (f.x + neck, chin - 6), (f.x + neck, chin + 4), (f.x - neck, chin + 4)],
             _shade(f.skin, 0.86))  # fmt: skip
    if male:
        for sign in (-1, 1):
            pen.fill([(f.x, chin + 7), (f.x + sign * 10, chin + 1), (f.x + sign * 8, chin + 8)], (245, 245, 245))
        pen.fill([(f.x - 1.8, chin + 5), (f.x + 1.8, chin + 5), (f.x + 3, 64), (f.x - 3, 64)], (170, 20, 30))
    else:
        pen.fill(_ellipse(f.x, chin + 2, 7.5, 4.5), _shade(f.skin, 0.93))


def _hair_in_front(pen: _Pen, f: Face) -> None:
    """The hairline on the forehead: low and even, receding in two bays, or covered by bangs."""
    if f.attributes["Bald"]:
        shine = _ellipse(f.x - 0.25 * f.width, f.y - 0.72 * f.height, 4.2, 1.6)
        pen.fill(shine, _shade(f.skin, 1.25))
        return
    top = f.y - 1.06 * f.height
    t = np.linspace(-1, 1, 25)
    if f.attributes["Bangs"]:
        line = f.y - 0.33 * f.height + np.where(np.arange(25) % 4 == 0, -2.6, 0.0)
    elif f.attributes["Receding_Hairline"]:
        line = f.y - (0.98 - 0.2 * np.exp(-((t / 0.16) ** 2))) * f.height
    else:
        line = f.y - (0.70 - 0.22 * t**4) * f.height
    side = np.sqrt(np.clip(1 - ((line - f.y) / (1.04 * f.height)) ** 2, 0, 1))  # no wider than the head at that height
    lower = np.stack([f.x + 1.04 * f.width * side * t, line], 1)
    crown = np.stack([f.x + 0.98 * f.width * t * np.sqrt(1 - 0.3 * t**2), top + 0.36 * f.height * t**2], 1)
    pen.fill(np.concatenate([lower, crown[::-1]]), f.hair)
    strands = _shade(f.hair, 0.62 if sum(f.hair) > 150 else 2.4)
    male = f.attributes["Male"]
    bottom = f.y + (0.0 if male else 0.9) * f.height
    if f.attributes["Straight_Hair"]:
        for sign in (-1, 1):
            for out in (1.06, 1.18, 1.3)[: 2 if male else 3]:
                start = (f.x + sign * f.width * out * 0.92, f.y - 0.62 * f.height)
                pen.line([start, (f.x + sign * f.width * out, bottom)], strands, 0.7)
        for out in (-0.5, -0.2, 0.1, 0.4):
            pen.line([(f.x + out * f.width, top + 1.5), (f.x + 1.2 * out * f.width, top + 5.5)], strands, 0.7)
    if f.attributes["Wavy_Hair"]:
        y = np.linspace(f.y - 0.7 * f.height, bottom, 24)
        for sign in (-1, 1):
            x = f.x + sign * (1.17 * f.width + 1.6 * np.sin((y - y[0]) * 1.15))
            pen.line(np.stack([x, y], 1), strands, 0.8)
        x = np.linspace(-0.7, 0.7, 24)
        pen.line(np.stack([f.x + x * f.width, top + 2.4 + 1.5 * np.sin(x * 16) + 4 * x**2], 1), strands, 0.8)


def _eyes(pen: _Pen, f: Face, shapes: dict[str, Polygon]) -> None:
    """Eyes, brows (thin or bushy), eye shadow and glasses."""
    has = f.attributes
    for name in ("left eye", "right eye"):
        x, y = shapes[name].mean(0)
        if has["Heavy_Makeup"]:
            pen.fill(_ellipse(x, y - 1.2, 4.2, 2.9), (122, 70, 190))
            for lash in (-1, 0, 1):
                pen.line([(x + 2.4 * lash, y - 1.2), (x + 3.4 * lash, y - 3.4)], DARK, 0.5)
        pen.fill(shapes[name], (250, 250, 250))
        pen.fill(_ellipse(x, y, 1.5, 1.7), DARK)
        thick = 2.8 if has["Bushy_Eyebrows"] else 0.6
        brow = y - 4.6 - (0.7 if has["Bushy_Eyebrows"] else 0)
        colour = _facial_hair(f)
        outer = -1 if name == "left eye" else 1
        pen.line([(x - 3.4 * outer, brow + 0.2), (x, brow - 0.7), (x + 3.6 * outer, brow + 0.6)], colour, thick)
        if has["Eyeglasses"]:
            frame = _ellipse(x, y + 0.3, 5.2, 4.4)
            pen.line([*frame, frame[0], frame[1]], (10, 10, 14), 1.1)
            pen.line([(x + 5.2 * outer, y), (f.x + outer * f.width, y - 0.6)], (10, 10, 14), 1.1)
    if has["Eyeglasses"]:
        left, right = (shapes[name].mean(0) for name in ("left eye", "right eye"))
        pen.line([(left[0] + 5.2, left[1]), (right[0] - 5.2, right[1])], (10, 10, 14), 1.1)


def _mouth_and_mustache(pen: _Pen, f: Face, shapes: dict[str, Polygon]) -> None:
    """Lips, closed or open on teeth and dark, red with makeup; a moustache above them."""
    has, mouth = f.attributes, shapes["mouth"]
    lips = (200, 16, 46) if has["Heavy_Makeup"] else _shade(f.skin, 0.66)
    pen.fill(mouth, lips)
    half = len(mouth) // 2
    top, bottom = mouth[:half], mouth[half:][::-1]
    if has["Mouth_Slightly_Open"]:
        inner_top, inner_bottom = top + 0.26 * (bottom - top), bottom + 0.2 * (top - bottom)
        pen.fill(np.concatenate([inner_top[1:-1], inner_bottom[1:-1][::-1]]), (70, 10, 16))
        teeth = inner_top + 0.42 * (inner_bottom - inner_top)
        pen.fill(np.concatenate([inner_top[2:-2], teeth[2:-2][::-1]]), (255, 255, 255))
    else:
        pen.line((top + bottom) / 2, _shade(lips, 0.5), 0.7)
    if has["Mustache"]:
        y = f.y + 0.36 * f.height
        colour = _facial_hair(f)
        for sign in (-1, 1):
            pen.fill([(f.x, y - 1), (f.x + sign * 3.5, y - 0.9), (f.x + sign * 7.2, y + 2.6), (f.x, y + 1.9)], colour)


def load(data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Draw 4,000 / 500 / 500 faces, or open those drawn before.

    Columns as for CelebA: ``image`` uint8 ``rows 3 64 64`` (memory-mapped), ``attributes`` boolean ``rows 18``.

    Args:
        data_dir: ignored; it is there so that every dataset is loaded by the same call.

    Raises:
        DataError: the cache cannot be written.
    """
    return pictures().dataset("faces")


def pictures() -> Pictures:
    """The images and attributes of `load`, all splits in one array; row n is `face(n)`.

    Raises:
        DataError: the cache cannot be written.
    """
    import PIL

    train, validation, test = ROWS.values()
    total = train + validation + test
    fingerprint = hashlib.sha256(f"faces {VERSION} {total} {PIL.__version__} {np.__version__}".encode()).hexdigest()
    images = cached_array(
        cache_directory() / "faces",
        fingerprint,
        (total, 3, SIDE, SIDE),
        lambda: (draw(face(row)) for row in range(total)),
        f"drawing {total:,} faces",
    )
    attributes = np.array([list(face(row).attributes.values()) for row in range(total)])
    return Pictures(images, attributes, (train, train + validation, total), fingerprint)
