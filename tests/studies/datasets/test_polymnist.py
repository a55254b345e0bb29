"""PolyMNIST: every picture shows a digit of its row's label on a crop of its background, reproducibly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.studies.datasets import polymnist
from mvae.studies.datasets.polymnist import MODALITIES, compose, pictures_in


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MVAE_CACHE", str(cache))

    def composed(backgrounds: str = "drawn", **options) -> Dataset:
        return polymnist.load(None, backgrounds, "embedded", **options)

    return composed


def column(data: Dataset, part: str, name: str) -> Tensor:
    table: Table = getattr(data, part)
    return table.select_rows(name, torch.arange(len(table)))


def test_pictures_are_inverted_digits_of_their_row_on_crops() -> None:
    random = np.random.RandomState(0)
    background = random.randint(0, 256, (40, 50, 3), dtype=np.uint8)
    ink = torch.from_numpy(random.rand(30, 28, 28) < 0.3)
    label = torch.from_numpy(random.randint(0, 4, 30))
    crops = {background[y : y + 28, x : x + 28].tobytes(): (y, x) for y in range(12) for x in range(22)}
    shown, corners = [], set()
    for picture, own in zip(compose(background, ink, label, [1, 2]), label, strict=True):
        candidates = []
        for digit in range(30):
            mask = ink[digit].numpy()[..., None]
            upright = picture.transpose(1, 2, 0)
            corner = crops.get(np.where(mask, 255 - upright, upright).tobytes())
            if corner is not None:
                candidates.append(digit)
                corners.add(corner)
        assert len(candidates) == 1
        assert label[candidates[0]] == own
        shown += candidates
    assert sorted(shown) == list(range(30))  # a permutation: every digit once
    assert len(corners) > 20


def test_pictures_are_determined_by_the_seed(load) -> None:
    one, same, other = load(), load(), load(seed=1)
    assert isinstance(one.train.columns["m3"], np.memmap)
    for name in MODALITIES:
        assert torch.equal(column(one, "test", name), column(same, "test", name))
        assert not torch.equal(column(one, "test", name), column(other, "test", name))
    assert one.vocabulary_id == same.vocabulary_id != other.vocabulary_id


def test_splits_have_the_stated_sizes_and_columns(load) -> None:
    data = load()
    assert (len(data.train), len(data.validation), len(data.test)) == (1297, 200, 300)
    assert data.train.names == (*MODALITIES, "label")
    assert column(data, "train", "m0").shape == (1297, 3, 28, 28)
    assert len(set(column(data, "test", "label").tolist())) == 10


def test_missing_cells_leave_no_row_empty_and_test_rows_complete(load) -> None:
    data = load(missing=0.5)
    present = data.train.presence(MODALITIES)
    assert present.any(1).all()
    assert present.float().mean() == pytest.approx(0.5 + 0.5**5 / 5, abs=0.02)
    assert data.train.has("label").all()
    assert data.test.complete
    assert torch.equal(load(missing=0.5).train.present, data.train.present)


def test_backgrounds_of_a_folder_are_used_by_name(load, tmp_path: Path) -> None:
    colours = [(10 * i, 50, 200) for i in range(5)]
    for name, colour in zip(MODALITIES, colours, strict=True):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}_plain.png")
    data = load(backgrounds=str(tmp_path))
    for name, colour in zip(MODALITIES, colours, strict=True):
        pixels = column(data, "test", name).permute(0, 2, 3, 1).reshape(-1, 3)
        assert {tuple(p.tolist()) for p in pixels.unique(dim=0)} == {colour, tuple(255 - level for level in colour)}


def test_smaller_copy_of_the_scream_is_enlarged(tmp_path: Path) -> None:
    for name in ("m0_a", "m1_the_scream_1200x1528", "m2_b", "m3_c", "m4_d"):
        Image.new("RGB", (60, 70)).save(tmp_path / f"{name}.png")
    assert [picture.shape for picture in pictures_in(tmp_path)][:2] == [(70, 60, 3), (2292, 1800, 3)]


@pytest.mark.parametrize(
    ("count", "size", "message"), [(4, 40, "has 4 pictures .* needs 5"), (5, 28, "28×28; crops of 28×28 need a larger")]
)
def test_unusable_folder_is_refused(load, tmp_path: Path, count: int, size: int, message: str) -> None:
    for i in range(count):
        Image.new("RGB", (size, size)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=message):
        load(backgrounds=str(tmp_path))


def test_unreadable_picture_is_named(load, tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cannot read the picture .*0\.png"):
        load(backgrounds=str(tmp_path))


def test_invalid_options_are_refused(load) -> None:
    with pytest.raises(SettingsError, match="the share of missing cells"):
        load(missing=1.0)
    with pytest.raises(SettingsError, match="between 1 and 1496 rows, not 1497"):
        load(validation=1497)
    with pytest.raises(SettingsError, match="'mnist' or 'embedded'"):
        polymnist.load(digits="letters")
