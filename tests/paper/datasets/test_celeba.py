"""CelebA's reader: the original layout, any subset of the images, and one-line errors."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvae.errors import DataError
from mvae.paper.attributes import ATTRIBUTES
from mvae.paper.datasets import celeba, celeba19

needs_data = pytest.mark.skipif(not os.environ.get("MVAE_DATA"), reason="needs CelebA in $MVAE_DATA")
ALL = (*ATTRIBUTES[:4], "Young", *ATTRIBUTES[4:], "Blurry")  # as in the original, there are more than the 18
LISTED, PRESENT = 12, 9
TRUTH = np.random.RandomState(1).randint(0, 2, (LISTED, len(ALL))).astype(bool)
SPLIT = [0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 2]  # not sorted, unlike the original


def name(row: int) -> str:
    return f"{row + 1:06d}.jpg"


def picture(row: int) -> Image.Image:
    pixels = np.random.RandomState(row).randint(0, 256, (11, 9, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((89, 109), 2)


def jpeg(row: int) -> bytes:
    file = io.BytesIO()
    picture(row).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of CelebA with 9 of the 12 listed images."""
    place = tmp_path / "data" / "celeba"
    (place / "img_align_celeba").mkdir(parents=True)
    for row in range(PRESENT):
        (place / "img_align_celeba" / name(row)).write_bytes(jpeg(row))
    rows = [f"{name(i)} {' '.join(' 1' if v else '-1' for v in values)}" for i, values in enumerate(TRUTH)]
    (place / "list_attr_celeba.txt").write_text("\n".join([str(LISTED), " ".join(ALL) + " ", *rows]) + "\n")
    (place / "list_eval_partition.txt").write_text("".join(f"{name(i)} {s}\n" for i, s in enumerate(SPLIT)))
    return place


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", "")
        archive.writestr("__MACOSX/img_align_celeba/._000001.jpg", b"junk")
        for path in sorted((folder / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(folder / "img_align_celeba")


def expected(row: int) -> np.ndarray:
    """The short side scaled to 64 by PyTorch's antialiased bilinear filter, and the central 64×64."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg(row))).convert("RGB")).transpose(2, 0, 1)
    scaled = torch.nn.functional.interpolate(
        torch.tensor(pixels)[None].float(), size=(78, 64), mode="bilinear", antialias=True
    )
    return scaled[0, :, 7:71].numpy()


@pytest.mark.parametrize("layout", ["folder", "zip", "original distribution"])
@pytest.mark.parametrize("given", ["the folder", "its parent"])
def test_images_attributes_and_splits_match_files(folder: Path, layout: str, given: str, caplog) -> None:
    if layout != "folder":
        zipped(folder)
    if layout == "original distribution":
        for part, file in (("Img", "img_align_celeba.zip"), ("Anno", "list_attr_celeba.txt")):
            (folder / part).mkdir()
            (folder / file).rename(folder / part / file)
    splits = celeba.load(folder if given == "the folder" else folder.parent)
    for split, table in enumerate((splits.train, splits.validation, splits.test)):
        rows = [i for i in range(PRESENT) if SPLIT[i] == split]
        batch = table.take(range(len(table)))
        assert len(batch) == len(rows)
        for image, attributes, row in zip(*map(np.asarray, (batch["image"], batch["attributes"])), rows, strict=True):
            assert np.abs(np.asarray(image, np.float32) - expected(row)).max() <= 1.01  # Pillow's weights have 8 bits
            truth = dict(zip(ALL, TRUTH[row].tolist(), strict=True))
            assert attributes.tolist() == [truth[a] for a in ATTRIBUTES]
    assert isinstance(splits.train.columns["image"], np.memmap)
    assert "9 of 202,599 images are here (5 train, 2 validation, 2 test)" in caplog.text


def test_cache_is_reused_until_images_change(folder: Path) -> None:
    zipped(folder)
    first = np.array(celeba.load(folder).train.columns["image"])
    (cache,) = (folder.parent.parent / "cache" / "celeba").glob("*.npy")
    made = cache.stat().st_mtime_ns
    assert np.array_equal(np.asarray(celeba.load(folder).train["image"]), first)
    assert cache.stat().st_mtime_ns == made
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:  # other images under the same names
        for row in range(PRESENT):
            archive.writestr(f"img_align_celeba/{name(row)}", jpeg(row + 50))
    assert not np.array_equal(np.asarray(celeba.load(folder).train["image"]), first)


def test_celeba19_has_one_modality_per_attribute(folder: Path) -> None:
    together, apart = celeba.load(folder), celeba19.load(folder)
    assert apart.test.names == ("image", *ATTRIBUTES)
    for i, attribute in enumerate(ATTRIBUTES):
        column = torch.as_tensor(apart.test.columns[attribute])
        assert torch.equal(column, torch.as_tensor(together.test.columns["attributes"])[:, [i]])
        assert apart.codecs[attribute].format(column[0]) == ("yes" if column[0, 0] else "no")
    assert apart.codecs["Male"].parse("YES").tolist() == [True]


def test_attributes_are_parsed_and_formatted_by_name(folder: Path) -> None:
    written = celeba.load(folder).codecs["attributes"]
    value = written.parse("smiling,Male")
    assert [ATTRIBUTES[i] for i in value.nonzero().flatten()] == ["Male", "Smiling"]
    assert written.format(value.float()) == "Male,Smiling"
    assert not written.parse("none").any()
    with pytest.raises(ValueError, match=r"none, or some of Bald, .*Wearing_Hat"):
        written.parse("Male,Young")


def rewritten(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def damage(folder: Path, what: str) -> None:
    attributes, partition = folder / "list_attr_celeba.txt", folder / "list_eval_partition.txt"
    lines = attributes.read_text().splitlines(keepends=True)
    match what:
        case "attributes truncated":
            attributes.write_text("".join(lines[:-2]))
        case "attributes cut in a row":
            attributes.write_text("".join(lines)[:-9])
        case "no count":
            attributes.write_text("".join(lines[1:]))
        case "no Smiling":
            rewritten(attributes, "Smiling", "Laughing")
        case "a value of 0":
            attributes.write_text(
                "".join(lines[:4]) + " ".join([name(2), *["0"] * len(ALL)]) + "\n" + "".join(lines[5:])
            )
        case "an image not listed":
            (folder / "img_align_celeba" / "777777.jpg").write_bytes(jpeg(3))
        case "no attribute list":
            attributes.unlink()
        case "no partition":
            partition.unlink()
        case "a split of 3":
            rewritten(partition, "000004.jpg 1", "000004.jpg 3")
        case "an image without a split":
            rewritten(partition, "000004.jpg 1\n", "")
        case "no test image":
            partition.write_text(partition.read_text().replace(" 2\n", " 0\n"))
        case "not an image":
            (folder / "img_align_celeba" / name(5)).write_bytes(b"not a jpeg")
        case "a truncated image":
            (folder / "img_align_celeba" / name(5)).write_bytes(jpeg(5)[:-200])
        case "no image":
            shutil.rmtree(folder / "img_align_celeba")
            (folder / "img_align_celeba").mkdir()
        case "a truncated zip":
            zipped(folder)
            archive = folder / "img_align_celeba.zip"
            archive.write_bytes(archive.read_bytes()[:-300])
        case "a flipped byte in the zip":
            zipped(folder)
            archive = folder / "img_align_celeba.zip"
            whole = bytearray(archive.read_bytes())
            whole[whole.index(jpeg(5)) + 600] ^= 255
            archive.write_bytes(whole)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("attributes truncated", "list_attr_celeba.txt has 10 rows instead of 12: it is truncated"),
        ("attributes cut in a row", "list_attr_celeba.txt line 14 has 17 values instead of 20"),
        ("no count", "list_attr_celeba.txt does not begin with a number of rows"),
        ("no Smiling", "list_attr_celeba.txt has no attribute Smiling"),
        ("a value of 0", "list_attr_celeba.txt line 5: Bald of 000003.jpg is '0', not 1 or -1"),
        ("an image not listed", r"list_attr_celeba.txt lacks 1 of the 10 images that are here \(777777.jpg …\)"),
        ("no attribute list", "no list_attr_celeba.txt in"),
        ("no partition", "no list_eval_partition.txt in"),
        ("a split of 3", "list_eval_partition.txt line 4: '000004.jpg 3' is not an image and 0, 1 or 2"),
        ("an image without a split", "list_eval_partition.txt lacks 1 of the 9 images that are here"),
        ("no test image", "no test image among the 9"),
        ("not an image", "cannot decode the image 000006.jpg of CelebA"),
        ("a truncated image", "cannot decode the image 000006.jpg of CelebA"),
        ("no image", "img_align_celeba holds no .jpg image"),
        ("a truncated zip", "img_align_celeba.zip is not an intact zip archive"),
        ("a flipped byte in the zip", "cannot decode the image 000006.jpg of CelebA"),
    ],
)
def test_damage_is_reported_in_one_line(folder: Path, what: str, message: str) -> None:
    damage(folder, what)
    with pytest.raises(DataError, match=message) as caught:
        celeba.load(folder)
    assert "\n" not in str(caught.value)


def test_error_names_source_and_licence_of_missing_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MVAE_DATA", raising=False)
    for given in (None, tmp_path):
        with pytest.raises(DataError, match=r"mmlab.*non-commercial research.*mvae train faces"):
            celeba.load(given)


@needs_data
def test_some_of_the_listed_real_images_are_read(tmp_path: Path) -> None:
    """The lists name 9,000 images; those present are read."""
    source, place = Path(os.environ["MVAE_DATA"]) / "celeba-9k", tmp_path / "some"
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.zip"))
    chosen = [1, 2, 3, 8001, 8500, 8501, 9000]
    with zipfile.ZipFile(source / "img_align_celeba.zip") as archive:
        for number in chosen:
            archive.extract(f"img_align_celeba/{number:06d}.jpg", place)
    splits = celeba.load(place)
    assert [len(t) for t in (splits.train, splits.validation, splits.test)] == [3, 2, 2]
    first = splits.codecs["attributes"].format(torch.as_tensor(splits.train.columns["attributes"])[0])
    assert first == "Brown_Hair,Heavy_Makeup,Mouth_Slightly_Open,Smiling,Straight_Hair"  # 000001.jpg
