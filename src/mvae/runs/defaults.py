"""Default sizes, epochs and rates for a table, chosen here alone, by its rows and columns."""

import math
from typing import Any

from mvae.data.table import Table
from mvae.data.tables.tensors import holds_fields
from mvae.errors import SettingsError

__all__ = ["defaults_for"]

STEPS = 10_000  # the most optimizer steps, unless a few passes over the rows need more
SMALL = 1_000  # below this number of rows a table is easily memorised
LINEAR_FROM = 200  # rows from which a small table's encoder starts from a linear model; in smaller ones it overfits
EPOCHS, LONGER = 300, 3  # the most epochs; small tables cost little and get LONGER times as many, with smaller steps
LATENTS, MANY = 16, 32  # latents; twice as many for a larger table with more columns than MANY
SAMPLES = 10  # samples of z per step: with one, most latents stay unused, and imputation is worse


def defaults_for(table: Table) -> dict[str, Any]:
    """Settings of model and training for this table; a mapping for `Config.change`.

    One modality is trained with the importance-weighted bound (Burda et al. 2016), which is what the MMVAE of one
    modality maximises; several modalities are trained with the MVAE. Modalities of columns get perceptrons. Tables
    below 1,000 rows get one hidden layer, and smaller and more steps; from 200 rows on, their encoders start from the
    posterior of a linear model (``linear_start``), and below, weights decay. For larger tables the learning rate decays
    over the last half of the epochs. Training stops early: the epochs are an upper bound.
    These choices were made on validation cells and on masks that are in no table of results
    (docs/research/tables-with-holes-tuning.md).

    Raises:
        SettingsError: no rows to learn from.

    >>> found = defaults_for(Table({"labs": torch.zeros(500, 12)}))
    >>> found["model"], found["training"]["batch_size"]
    ({'latents': 16, 'name': 'mmvae'}, 64)
    """
    rows = len(table)
    if not rows:
        raise SettingsError("no rows to learn from")
    small = rows < SMALL
    flat = [name for name, column in table.columns.items() if holds_fields(column)]
    linear = small and rows >= LINEAR_FROM and bool(flat)
    words = [name for name, c in table.columns.items() if c.ndim == 2 and name not in flat]
    network = {"network": "mlp", "hidden": [256] if small else [128, 128]}
    modality: dict[str, Any] = {"encoder": network, "decoder": network}
    reader = {"network": "lstm", "embedding": 64, "hidden": 128}
    modalities = {name: dict(modality) for name in flat}
    modalities |= {name: {"encoder": reader, "decoder": reader} for name in words}
    for name in flat if linear else ():
        modalities[name]["linear_start"] = True
    batch = min(1024, max(64, 2 ** round(math.log2(max(1, rows / 50)))))
    epochs = max(5, min(EPOCHS * (LONGER if small else 1), round(STEPS * batch / rows)))
    training = {
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": 1e-3 if small else 3e-3,
        # Few validation rows are noisy, and the objective often stands still until the learning rate falls.
        "patience": max(5, epochs // (3 if small else 2)),
    }
    if not small:
        training["decay_epochs"] = epochs // 2
    elif not linear:  # with a linear start, decay would only weaken associations
        training |= {"optimizer": "adamw", "weight_decay": 0.1}
    wide = not small and sum(math.prod(table.columns[name].shape[1:]) for name in flat) > MANY
    alone = len(table.names) == 1
    return {
        "model": {"latents": 2 * LATENTS if wide else LATENTS} | ({"name": "mmvae"} if alone else {}),
        "models": {"mmvae": {"samples": SAMPLES}} if alone else {},
        "modalities": modalities,
        "training": training | ({} if alone else {"anneal_epochs": epochs // 3}),
    }
