"""Default sizes, epochs and rates for a table, by its number of rows and of values: the one place that chooses them."""

import math
from typing import Any

from mvae.data.table import Table
from mvae.errors import SettingsError

__all__ = ["defaults_for"]

STEPS = 4_000  # of the optimizer at most, unless a pass over the rows needs more
SMALL = 1_000  # rows below which one hidden layer is enough


def defaults_for(table: Table) -> dict[str, Any]:
    """What a declaration should say of model and training, for this table; a mapping for `Config.change`.

    Chosen on validation cells of the tables in docs/research/tables-with-holes.md. Training stops early, so that the
    epochs are an upper bound.

    Raises:
        SettingsError: no rows to learn from.

    >>> found = defaults_for(Table({"labs": torch.zeros(500, 12)}))
    >>> found["model"], found["training"]["batch_size"]
    ({'latents': 8}, 64)
    """
    rows = len(table)
    if not rows:
        raise SettingsError("no rows to learn from")
    sizes = {name: math.prod(column.shape[1:]) for name, column in table.columns.items()}
    hidden = [256] if rows < SMALL else [128, 128]
    network = {"network": "mlp", "hidden": hidden}
    batch = min(1024, max(64, 2 ** round(math.log2(max(1, rows / 50)))))
    epochs = max(5, min(500, round(STEPS * batch / rows)))
    return {
        "model": {"latents": min(16, max(8, round(sum(sizes.values()) / 2)))},
        "modalities": {name: {"encoder": network, "decoder": network} for name in sizes},
        "training": {
            "epochs": epochs,
            "batch_size": batch,
            "learning_rate": 3e-3,
            "anneal_epochs": min(20, epochs // 10),
            "patience": max(5, epochs // 10),
        },
    }
