"""The accuracy of a linear classifier on the latents, by the number of modalities they are inferred from."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mvae.data.columns import Values
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.evaluation.rows import labels_of, latent_means, rows_with
from mvae.evaluation.subsets import subsets_of
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data

__all__ = ["linear_accuracy_by_number"]


def linear_accuracy_by_number(
    model: MultimodalVAE,
    train: tuple[Data, Values],
    test: tuple[Data, Values],
    *,
    numbers: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[int, float]:
    """Accuracy of a logistic regression on the means of q(z | n modalities), for every n.

    For every subset, a regression (scikit-learn's, L2 with C = 1) is fitted to the training means given that subset,
    and scored on test means given the same subset. The result is the mean over the subsets of a size. If a size has
    more than 20 subsets, 20 are drawn. Means are not standardised: the prior sets the scale of latents, and unused ones
    stay near 0.

    Args:
        model: any model with a posterior for the subsets.
        train: rows, and the class of each, ``rows``; for each subset, the rows that have all of it are used.
        test: the same.
        numbers: how many modalities are given; default 1 to all.
        seed: the seed by which subsets are drawn.

    Raises:
        QueryError: a subset that no row has, or of which the training rows have one class only. DataError: data that
            does not fit, or labels that are not one number per row.
    """
    from sklearn.linear_model import LogisticRegression

    tables = [model.as_table(data) for data, _ in (train, test)]
    labels = [labels_of(table, own) for table, (_, own) in zip(tables, (train, test), strict=True)]
    found = {}
    for n in range(1, len(model.names) + 1) if numbers is None else numbers:
        scores = []
        for given in subsets_of(model.names, n, seed):
            pairs = [_latents(model, table, own, given) for table, own in zip(tables, labels, strict=True)]
            if len(np.unique(pairs[0][1])) < 2:
                raise QueryError(f"the training rows that have {' and '.join(given)} are of one class")
            regression = LogisticRegression(max_iter=1000)
            scores.append(float(regression.fit(*pairs[0]).score(*pairs[1])))
        found[n] = sum(scores) / len(scores)
    return found


def _latents(model: MultimodalVAE, table: Table, labels: Tensor, given: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rows = rows_with(table, given)
    return latent_means(model, table, rows, given).double().numpy(), labels[rows].numpy()
