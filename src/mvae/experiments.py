"""One experiment a dataset: its reader, its networks and the paper's settings (App. A, E)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mvae import likelihoods
from mvae.data import digits, mnist
from mvae.data.splits import Splits
from mvae.errors import SettingsError
from mvae.modality import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import ImageDecoder, LabelEncoder, mlp

__all__ = ["EXPERIMENTS", "RECIPES", "Experiment", "build", "experiment"]

# `paper` is Eq. 5 and nothing else. `coupled` adds one term, the image's posterior explaining the label too, without
# which image and label are often learned side by side (docs/coupling.md). Never mixed in one table.
RECIPES: dict[str, tuple[str, ...]] = {"paper": (), "coupled": ("image",)}  # MVAE's cross_from


@dataclass(frozen=True)
class Experiment:
    """What `mvae train NAME` trains, with which settings."""

    name: str
    load: Callable[..., Splits]
    modalities: Callable[[int], dict[str, Modality]]  # from the number of latents
    latent_dim: int
    epochs: int
    anneal_epochs: int
    batch_size: int
    learning_rate: float
    summary: str


def _image_and_label(shape: tuple[int, ...], hidden: int, label_weight: float) -> Callable[[int], dict[str, Modality]]:
    """Fig. 5: two hidden layers each way; λ = 1 for the image (Sec. 4)."""

    def modalities(latents: int) -> dict[str, Modality]:
        widths = (hidden, hidden)
        return {
            "image": Modality(
                mlp(math.prod(shape), 2 * latents, widths),
                ImageDecoder(latents, shape, widths),
                likelihoods.Bernoulli(),
            ),
            "label": Modality(
                LabelEncoder(10, 2 * latents, hidden),
                mlp(latents, 10, widths),
                likelihoods.Categorical(),
                weight=label_weight,
            ),
        }

    return modalities


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment(
            "digits",
            digits.load,
            _image_and_label((1, 8, 8), 256, 50.0),
            latent_dim=16,
            epochs=150,
            anneal_epochs=50,
            batch_size=100,
            learning_rate=1e-3,
            summary="8×8 digits embedded in scikit-learn: no download, trains in under a minute",
        ),
        Experiment(
            "mnist",
            mnist.load,
            _image_and_label((1, 28, 28), 512, 50.0),
            latent_dim=64,
            epochs=500,
            anneal_epochs=200,
            batch_size=100,
            learning_rate=1e-3,
            summary="MNIST with the paper's networks and settings (App. A)",
        ),
    )
}


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in EXPERIMENTS:
        raise SettingsError(f"no dataset {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def build(what: Experiment, recipe: str = "coupled", seed: int = 0) -> MVAE:
    """A freshly initialised model; its initial weights depend on the seed alone.

    Raises:
        SettingsError: an unknown recipe.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MVAE(what.modalities(what.latent_dim), what.latent_dim, cross_from=RECIPES[recipe])
