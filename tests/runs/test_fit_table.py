"""The types that `fit_table` accepts for its options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvae
from tests.patients import patients
from tests.unchecked import unchecked

pd = pytest.importorskip("pandas")

FEW: Mapping[str, Any] = {"training": {"epochs": 1, "anneal_epochs": 0}}


def test_modality_columns_may_be_an_index_or_an_array() -> None:
    modalities: Any = {"labs": patients().columns[1:3], "rest": np.array(["sex", "stage"])}
    labs = tuple(patients().columns[1:3])
    with unchecked():
        model = mvae.fit_table(patients(), modalities=modalities, changes=FEW, callbacks=[])
    assert model.schema.modalities == {"labs": labs, "rest": ("sex", "stage")}
    assert all(type(name) is str for names in model.schema.modalities.values() for name in names)


@pytest.mark.parametrize("missing", [{-999: 2, "?": 1}.keys(), (cell for cell in (-999, "?")), [-999, None, "?"]])
def test_missing_accepts_any_iterable(missing: Any) -> None:
    frame = pd.DataFrame({"hb": [9.5, -999.0, 8.0, 7.5] * 9, "sex": ["f", "m", "?", "f"] * 9})
    with unchecked():
        model = mvae.fit_table(frame, missing=missing, changes=FEW, callbacks=[])
    assert model.schema.named["hb"].missing == (-999, "?")
    assert model.schema.named["sex"].classes == ("f", "m")


def test_similar_keys_of_joined_files_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = range(1, 31)
    (tmp_path / "a.csv").write_text("\n".join(["id,x", *(f"{i:03d},{i % 7}.5" for i in rows)]))
    (tmp_path / "b.csv").write_text("\n".join(["id,y", *(f"{i},{i % 5}.5" for i in range(10, 41))]))
    with unchecked():
        mvae.fit_table([tmp_path / "a.csv", tmp_path / "b.csv"], key="id", changes=FEW, callbacks=[])
    assert "its key '10' differs from '010' of an earlier file (21 such keys)" in caplog.text


@pytest.mark.parametrize(("rows", "starts"), [(150, False), (400, True)])
def test_encoders_of_small_tables_start_from_a_linear_model(rows: int, starts: bool) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 4)), columns=list("abcd"))
    frame.loc[::3, ["c", "d"]] = None
    with unchecked():
        model = mvae.fit_table(frame, changes=FEW, callbacks=[])
    (modality,) = model.model.modalities.values()  # one, although c and d are missing together
    assert isinstance(modality, mvae.Columns)
    assert modality.linear_start is starts
