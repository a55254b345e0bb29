"""totalVI (Gayoso et al. 2021) as an optional comparison in the study `cite-seq`: used as its documentation says.

The test cells are a batch whose proteins are missing, which is how scvi-tools imputes them. It predicts means of
counts, not of their logarithms, so its RMSLE cannot be compared with the others'.
"""

import importlib.util
import logging
import time
import warnings
from typing import Any

import numpy as np

from mvae.studies.cite_seq_cells import Cells, metrics_of

EPOCHS, DRAWS = 100, 25


def is_installed() -> bool:
    """Whether scvi-tools is installed."""
    return importlib.util.find_spec("scvi") is not None


def of_totalvi(train: Cells, test: Cells, seed: int, epochs: int = EPOCHS) -> dict[str, float]:
    """Metrics of the test cells' proteins, predicted from their RNA, and its minutes of processor time."""
    import anndata  # pyright: ignore[reportMissingImports]
    import scvi  # pyright: ignore[reportMissingImports]

    logging.getLogger("scvi").setLevel(logging.ERROR)
    scvi.settings.seed = seed
    cells = anndata.AnnData(np.concatenate([train.rna, test.rna]).astype(np.float32))
    cells.obsm["protein"] = np.concatenate([train.protein, np.zeros_like(test.protein)]).astype(np.float32)
    cells.obs["batch"] = ["train"] * len(train.rna) + ["test"] * len(test.rna)
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Lightning, about this machine
        model_class: Any = scvi.model.TOTALVI
        model_class.setup_anndata(cells, batch_key="batch", protein_expression_obsm_key="protein")
        model = model_class(cells)
        model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False)
        _, mean = model.get_normalized_expression(
            indices=np.arange(len(train.rna), cells.n_obs),
            transform_batch="train",
            n_samples=DRAWS,
            return_mean=True,
            include_protein_background=True,
            sample_protein_mixing=False,
            return_numpy=True,
        )
    return metrics_of(test.protein, np.log1p(mean)) | {"minutes": (time.process_time() - begun) / 60}
