"""PNG grids, and reading a user's pictures of any size and mode."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.errors import DataError, QueryError, RunError
from mvae.report.grid import read_image, save_grid, save_named_rows


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# -- Writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "columns", "grid"), [(1, None, (1, 1)), (5, None, (2, 3)), (9, None, (3, 3)), (7, 4, (2, 4)), (2, 5, (1, 5))]
)
def test_images_are_arranged_in_rows_with_gaps(
    n: int, columns: int | None, grid: tuple[int, int], tmp_path: Path
) -> None:
    levels = 20 * torch.arange(1, n + 1)
    save_grid((levels / 255)[:, None, None, None].expand(n, 1, 60, 70), tmp_path / "grid.png", columns)
    pixels = opened(tmp_path / "grid.png")
    assert pixels.shape == (grid[0] * 62 + 2, grid[1] * 72 + 2)
    for i in range(n):
        top, left = i // grid[1] * 62 + 2, i % grid[1] * 72 + 2
        cell = pixels[top : top + 60, left : left + 70]
        assert (cell == int(levels[i])).all()
    assert (pixels[:2] == 255).all()
    assert (pixels[:, :2] == 255).all()


def test_small_images_are_enlarged_by_an_integer_factor(tmp_path: Path) -> None:
    image = torch.rand(1, 1, 8, 8)
    save_grid(image, tmp_path / "grid.png")
    pixels = opened(tmp_path / "grid.png")
    assert pixels.shape == (60, 60)
    assert np.array_equal(pixels[2:58:7, 2:58:7], (image[0, 0] * 255).round().byte().numpy())
    assert np.array_equal(pixels[8:58:7, 8:58:7], pixels[2:58:7, 2:58:7])


def test_colours_are_kept_and_levels_are_clipped_to_0_to_1(tmp_path: Path) -> None:
    image = torch.tensor([1.5, 0.5, -1.0])[None, :, None, None].expand(1, 3, 56, 56)
    save_grid(image, tmp_path / "grid.png")
    assert opened(tmp_path / "grid.png")[20, 20].tolist() == [255, 128, 0]


def test_other_numbers_of_channels_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="1 or 3 channels, not 2"):
        save_grid(torch.zeros(1, 2, 4, 4), tmp_path / "grid.png")
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "grid.png"):
        with pytest.raises(RunError, match="cannot write"):
            save_grid(torch.zeros(1, 1, 4, 4), path)
    assert {file.name for file in tmp_path.iterdir()} == {"file"}


def test_named_groups_are_stacked_with_their_names_on_the_left(tmp_path: Path) -> None:
    grey, red = torch.full((1, 1, 60, 60), 0.2), torch.tensor([1.0, 0, 0])[None, :, None, None].expand(3, 3, 60, 60)
    save_named_rows({"given gray": grey, "image": red}, tmp_path / "rows.png", columns=2)
    pixels = opened(tmp_path / "rows.png")
    margin = pixels.shape[1] - (2 * 62 + 2)
    assert pixels.shape == (3 * 62 + 2 * 2, margin + 2 * 62 + 2, 3)
    assert (pixels[2:62, margin + 2 : margin + 62] == 51).all()
    assert (pixels[2:62, margin + 64 : margin + 124] == 255).all()  # one image was given
    for top in (66, 128):
        assert (pixels[top : top + 60, margin + 2 : margin + 62] == [255, 0, 0]).all()
    for top in (0, 64):  # a name is written next to each
        assert (pixels[top : top + 30, :margin] < 100).any()


# -- Reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 30), (3, 200)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 4)])
def test_a_picture_of_any_mode_and_size_becomes_one_row(
    mode: str, size: tuple[int, int], shape: tuple[int, int, int], tmp_path: Path
) -> None:
    white = np.full(size[::-1], 65535, np.uint16)
    picture = Image.fromarray(white) if mode == "I;16" else Image.new("RGB", size, "white").convert(mode)
    assert picture.mode == mode
    path = tmp_path / ("photo.tiff" if mode in ("CMYK", "YCbCr") else "photo.png")
    picture.save(path, **({"compression": "tiff_lzw"} if path.suffix == ".tiff" else {}))
    row = read_image(path, shape)
    assert row.shape == (1, *shape)
    torch.testing.assert_close(row, torch.ones(1, *shape), rtol=0, atol=0.01)


@pytest.mark.parametrize(("dtype", "levels"), [(np.uint8, [0, 51, 255]), (np.uint16, [0, 13107, 65535])])
def test_levels_are_fractions_of_the_maximum_with_8_and_16_bits(dtype: type, levels: list[int], tmp_path: Path) -> None:
    Image.fromarray(np.array([levels], dtype)).save(tmp_path / "photo.png")
    torch.testing.assert_close(read_image(tmp_path / "photo.png", (1, 1, 3)), torch.tensor([[[[0, 0.2, 1]]]]))


def test_a_colour_picture_is_read_back_with_its_channels_in_place(tmp_path: Path) -> None:
    image = (torch.rand(3, 5, 7) * 255).byte()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "photo.png")
    torch.testing.assert_close(read_image(tmp_path / "photo.png", (3, 5, 7)), image[None] / 255)


def test_a_picture_that_is_not_square_is_cropped_to_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((30, 90), np.uint8)
    pixels[:, 30:60] = 255
    for name, picture in (("wide", pixels), ("tall", pixels.T)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        assert (read_image(tmp_path / f"{name}.png", (1, 15, 15)) > 0.85).all()
    Image.fromarray(np.full((2, 9000), 255, np.uint8)).save(tmp_path / "strip.png")
    assert torch.equal(read_image(tmp_path / "strip.png", (3, 64, 64)), torch.ones(1, 3, 64, 64))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 255  # the upper half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    row = read_image(tmp_path / "photo.png", (1, 16, 16))[0, 0]
    assert (row[:, 8:] == 1).all()
    assert (row[:, :8] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode: str, tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    if mode == "P":
        Image.new("P", (8, 8), 0).save(tmp_path / "photo.png", transparency=0)
    else:
        clear.convert(mode).save(tmp_path / "photo.png")
    assert torch.equal(read_image(tmp_path / "photo.png", (3, 8, 8)), torch.ones(1, 3, 8, 8))


def test_a_colour_photo_becomes_grey_with_the_published_weights(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "photo.png")
    levels = read_image(tmp_path / "photo.png", (1, 8, 8)) * 255
    assert (levels - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)).abs().max() <= 0.51


def png() -> bytes:
    memory = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8)).save(memory, "PNG")
    return memory.getvalue()


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:40], png()[:-30], png()[:60] + bytes(500)])
def test_a_damaged_picture_is_a_one_line_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"cannot read the picture {path}: ")) as caught:
        read_image(path, (1, 8, 8))
    assert "\n" not in str(caught.value)


def test_absent_pictures_and_real_levels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.png: No such file or directory; give a picture file"):
        read_image(tmp_path / "absent.png", (1, 8, 8))
    with pytest.raises(DataError, match="it is not a regular file"):
        read_image(tmp_path, (1, 8, 8))
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(DataError, match="its levels are real numbers; save it with 8 bits"):
        read_image(tmp_path / "real.tiff", (1, 8, 8))
