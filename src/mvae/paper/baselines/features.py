"""The features for the logistic regressions of Sec. 5.1: raw pixels, the hidden units of an RBM, codes of a VAE."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvae.data.table import Table
from mvae.models.base import MultimodalVAE

Features = Callable[[Table], Float[np.ndarray, "rows features"]]

RBM_UNITS = 128  # App. H


def pixels(table: Table, power: float = 1.0) -> Float[np.ndarray, "rows features"]:
    """The first modality as numbers, with bytes scaled to [0, 1], raised to ``power`` (baseline 2).

    >>> pixels(Table({"image": torch.tensor([[[0, 255]]], dtype=torch.uint8)}))
    array([[0., 1.]], dtype=float32)
    """
    column = torch.as_tensor(table.columns[table.names[0]])
    levels = column.float().div_(255) if column.dtype == torch.uint8 else column.float()
    return levels.reshape(len(levels), -1).pow(power).cpu().numpy()


def rbm(images: Table, epochs: int, seed: int = 0, power: float = 1.0) -> Features:
    """The hidden units' probabilities of a restricted Boltzmann machine learned from all images (baseline 5).

    It has one layer of 128 hidden units (App. H) and is trained by scikit-learn's persistent contrastive divergence;
    grey levels, or a power of them, are taken as probabilities of pixels. The learning rate is a tenth of
    scikit-learn's, with which the features are worse by 2 to 18 points on FashionMNIST, and on MNIST with 50 pairs
    (validation rows).
    """
    from sklearn.neural_network import BernoulliRBM

    machine = BernoulliRBM(RBM_UNITS, learning_rate=0.01, batch_size=10, n_iter=epochs, random_state=seed)
    machine.fit(pixels(images, power))
    return lambda table: np.asarray(machine.transform(pixels(table, power)), np.float32)


def latents(model: MultimodalVAE, images: Table) -> Features:
    """The mean of q(z | x1) of a trained model, divided by one common scale (baselines 3 and 4).

    Latents keep their relative spread: uninformative ones must not be scaled up to the size of the others.
    """
    first = model.names[0]

    def means(table: Table) -> Tensor:
        chunks = range(0, len(table), 1000)
        parts = [model.posterior(table.take(slice(i, i + 1000)), given=[first]).mean for i in chunks]
        return torch.cat(parts).float().cpu()

    scale = float(means(images).std())
    return lambda table: (means(table) / scale).numpy()
