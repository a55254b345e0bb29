"""Drawn faces: reproducible bytes, visible attributes, and landmarks on the parts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mvae.paper.attributes import ATTRIBUTES
from mvae.paper.datasets import faces, faces19


def with_and_without(attribute: str, rows: int = 300) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of drawings of the same face that differ in one attribute alone."""
    pairs = []
    for row in range(rows):
        face = faces.face(row)
        if face.attributes[attribute] and len(pairs) < 5:
            changed = {**face.attributes, attribute: False}
            other = faces.Face(**{**vars(face), "attributes": changed})
            pairs.append((faces.draw(face), faces.draw(other)))
    return pairs


SHAPES = [a for a in ATTRIBUTES if not a.endswith("_Hair") or a in ("Straight_Hair", "Wavy_Hair")]


@pytest.mark.parametrize("attribute", [a for a in SHAPES if a != "Pale_Skin"])
def test_attribute_changes_visible_part(attribute: str) -> None:
    pairs = with_and_without(attribute)
    assert len(pairs) == 5
    for one, other in pairs:
        changed = np.abs(one.astype(int) - other).max(0) > 40
        assert changed.sum() >= 12, attribute


def test_colours_of_hair_and_skin_are_distinct() -> None:
    """Each attribute has its own colours, far from those of the others."""
    by_name: dict[str, set[tuple[int, int, int]]] = {}
    for row in range(300):
        face = faces.face(row)
        hair = [name for name in faces.HAIR if face.attributes[name]]
        assert len(hair) <= 1
        by_name.setdefault(hair[0] if hair else "none", set()).add(face.hair)
        by_name.setdefault("pale" if face.attributes["Pale_Skin"] else "not pale", set()).add(face.skin)
    for first, second in [(a, b) for a in (*faces.HAIR, "none") for b in (*faces.HAIR, "none") if a < b]:
        for one in by_name[first] - (by_name["none"] if first != "none" else set()):
            for other in by_name[second] - (by_name["none"] if second != "none" else set()):
                assert np.abs(np.subtract(one, other)).sum() > 90
    assert min(np.abs(np.subtract(p, q)).sum() for p in by_name["pale"] for q in by_name["not pale"]) > 90


def test_drawing_depends_on_row_and_seed() -> None:
    one, same, other = faces.draw(faces.face(7)), faces.draw(faces.face(7)), faces.draw(faces.face(7, seed=1))
    assert one.shape == (3, 64, 64)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_landmarks_lie_on_drawn_parts() -> None:
    for row in range(40):
        face, points, image = faces.face(row), faces.landmarks(row), faces.draw(faces.face(row))
        assert set(points) == {"face", "left eye", "right eye", "nose", "mouth"}
        oval = points["face"]
        for name in ("left eye", "right eye", "mouth", "nose"):
            assert (points[name].min(0) > oval.min(0)).all()
            assert (points[name].max(0) < oval.max(0)).all()
        for name in ("left eye", "right eye"):  # its pupil is dark
            x, y = points[name].mean(0)
            assert image[:, int(y), int(x)].mean() < 90
        x, y = points["left eye"].mean(0)[0] * 0.5 + points["right eye"].mean(0)[0] * 0.5, oval.mean(0)[1] + 3
        assert np.abs(image[:, int(y), int(x)].astype(int) - face.skin).max() < 90  # between eyes and nose: skin


def test_dataset_is_drawn_once_with_columns_of_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVAE_CACHE", str(tmp_path))
    monkeypatch.setattr(faces, "ROWS", {"train": 30, "validation": 5, "test": 4})
    splits = faces.load()
    assert [len(t) for t in (splits.train, splits.validation, splits.test)] == [30, 5, 4]
    test = splits.test.take([0])
    assert np.array_equal(torch.as_tensor(test.columns["image"])[0], faces.draw(faces.face(35)))
    truth = faces.face(35).attributes
    assert test.columns["attributes"][0].tolist() == [truth[name] for name in ATTRIBUTES]
    (cache,) = (tmp_path / "faces").glob("*.npy")
    made = cache.stat().st_mtime_ns
    assert faces19.load().train.names == ("image", *ATTRIBUTES)
    assert cache.stat().st_mtime_ns == made


def test_attributes_are_frequent_enough_to_learn() -> None:
    share = np.mean([list(faces.face(row).attributes.values()) for row in range(500)], 0)
    assert (share > 0.03).all()
    assert (share < 0.7).all()
