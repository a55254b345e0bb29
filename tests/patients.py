"""A small table with every kind of column and missing cells, for the tests of tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

ROWS = 120
NAMES = ("hb", "crp", "visits", "sex", "stage", "city", "visit", "share", "clinic")
FEW = {"training": {"epochs": 2, "anneal_epochs": 1, "batch_size": 64}}


def patients(rows: int = ROWS, seed: int = 0, missing: float = 0.2) -> Any:
    """Text, numbers and dates that depend on one hidden state per row."""
    rng = np.random.default_rng(seed)
    sick = rng.integers(0, 2, rows)
    frame = pd.DataFrame(
        {
            "id": [f"p{i:03}" for i in range(rows)],
            "hb": np.round(12 - 3 * sick + 0.5 * rng.standard_normal(rows), 1),
            "crp": np.round(np.exp(2 * sick + rng.standard_normal(rows)), 2) + 0.01,
            "visits": pd.array(rng.poisson(2 + 6 * sick), "Int64"),
            "sex": rng.choice(["f", "m"], rows),
            "stage": pd.array(np.clip(1 + 2 * sick + rng.integers(0, 2, rows), 1, 4), "Int64"),
            "city": np.where(rng.random(rows) < 0.2, "Hamar", np.where(sick == 1, "Oslo", "Bergen")).astype(object),
            "visit": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, rows), unit="D"),
            "share": np.round(np.clip(0.3 + 0.4 * sick + 0.1 * rng.standard_normal(rows), 0, 1), 3),
            "clinic": "north",
        }
    )
    for name in NAMES:
        frame.loc[rng.random(rows) < missing, name] = pd.NaT if name == "visit" else pd.NA if name in (
            "visits", "stage") else None  # fmt: skip
    return frame


def csv_of(frame: Any, folder: Path, name: str = "patients.csv") -> Path:
    """Write the frame to a CSV file; return its path."""
    path = folder / name
    frame.to_csv(path, index=False)
    return path
