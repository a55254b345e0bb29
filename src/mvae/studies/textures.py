"""Five drawn textures: backgrounds for PolyMNIST if no folder of pictures is given."""

import numpy as np

SIDE = 256

Texture = np.ndarray  # uint8 height width 3


def textures() -> list[Texture]:
    """Wood grain, waves, cloth, stars and bricks, ``256 256 3`` each; computed in integers, so the same everywhere.

    >>> [texture.shape for texture in textures()]
    [(256, 256, 3), (256, 256, 3), (256, 256, 3), (256, 256, 3), (256, 256, 3)]
    """
    makers = (_wood, _waves, _cloth, _stars, _bricks)
    # RandomState, not default_rng: NumPy promises its stream never changes, so the pictures never do.
    drawn = [make(np.random.RandomState([0, i])) for i, make in enumerate(makers)]
    return [np.clip(texture, 0, 255).astype(np.uint8) for texture in drawn]


def _tinted(shade: np.ndarray, dark: tuple[int, ...], light: tuple[int, ...]) -> np.ndarray:
    """Shades 0 to 255 as colours between two given ones."""
    low, high = np.array(dark), np.array(light)
    return low + shade[..., None] * (high - low) // 255


def _blurred(values: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Sums over a window that wraps around the edge, as shades 0 to 255."""
    total = np.sum([np.roll(values, shift, axis) for shift in range(width)], axis=0)
    return (total - total.min()) * 255 // max(1, int(total.max() - total.min()))


def _wood(random: np.random.RandomState) -> np.ndarray:
    grain = _blurred(random.randint(0, 256, (SIDE, SIDE)), 0, 40)
    return _tinted(_blurred(grain, 1, 3), (40, 24, 10), (190, 140, 80))


def _waves(random: np.random.RandomState) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    bend = _blurred(random.randint(0, 256, (SIDE, SIDE)), 1, 60)
    bend = _blurred(bend, 0, 60) // 4
    phase = (6 * y + bend * 6 + x) % 256
    rising = np.minimum(phase, 255 - phase) * 2
    return _tinted(rising, (30, 40, 110), (240, 130, 50))


def _cloth(random: np.random.RandomState) -> np.ndarray:
    threads = random.randint(0, 100, (2, SIDE // 4, 3)).repeat(4, 1)  # dark, so that a digit's inverted ones are light
    y, x = np.mgrid[:SIDE, :SIDE]
    over = ((y // 4 + x // 4) % 2 == 0)[..., None]
    return np.where(over, threads[0][:, None], threads[1][None])


def _stars(random: np.random.RandomState) -> np.ndarray:
    sky = _tinted(_blurred(_blurred(random.randint(0, 256, (SIDE, SIDE)), 0, 30), 1, 30), (4, 4, 20), (40, 20, 70))
    for y, x, size, light in random.randint(0, (SIDE - 3, SIDE - 3, 3, 120), (1200, 4)):
        sky[y : y + size + 1, x : x + size + 1] = 255 - light
    return sky


def _bricks(random: np.random.RandomState) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    course = y // 12
    along = x + 12 * (course % 2)
    shade = random.randint(0, 256, (SIDE, SIDE))[course, along // 24 % SIDE]
    mortar = (y % 12 < 2) | (along % 24 < 2)
    return np.where(mortar[..., None], 200, _tinted(shade, (90, 30, 20), (190, 90, 70)))
