"""What an experiment is: a dataset's reader, its networks and the paper's settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mvae.data.dataset import Dataset
from mvae.modality.base import Modality
from mvae.models.cvae import CVAE

__all__ = ["CROSS_SHARE", "Experiment"]

CROSS_SHARE = 0.2  # of λ, in a cross term that every row has; chosen on validation rows of MNIST (docs/coupling.md)


@dataclass(frozen=True)
class Experiment:
    """What `mvae train NAME` trains, with which networks and settings; networks are made for a number of latents.

    Every model of a dataset has the same networks for the same modality.

    Args:
        name: as in `mvae train NAME`.
        load: the reader: ``data_dir`` → `Dataset`.
        modalities: all of them, in order; the first is x1 of the tables.
        summary: one line for `mvae train --help`.
        latent_dim, epochs, anneal_epochs, batch_size, learning_rate: the paper's.
        shown: what the picture of `mvae train` is given, a row of samples each, as for ``--given``; the first is what
            Figure 2 is given.
        conditional: the CVAE, where the paper has one.
        joint_encoder: the encoder of all modalities together (JMVAE), where the paper has one.
        cross_from: modalities whose posterior explains the others in the recipe `coupled` (see `mvae.models.mvae`).
        cross_share: how much λ counts there (see there).
        pseudo_labels: modalities that the recipe `coupled` guesses where rows lack them (see there).
        few_pairs_noise, few_pairs_shift: standard deviation of the noise that blurs x1 in the recipe `coupled` where
            pairs are few, and by how many pixels it is moved there (and for logistic regression and the RBM).
        supervised_noise, supervised_shift: the same for the supervised network, at any number of pairs (all chosen on
            validation rows: docs/research/few-pairs.md).
        input_power: the power of x1's levels that the encoder sees in both where pairs are few, and that the RBM and
            logistic regression see.
        random_subsets: k of Eq. 5.
        samples, denominator_samples: importance samples a row, and draws for the denominator (None: as many as
            `mvae.evaluation.likelihood.log_likelihood` chooses), of Sec. 5.
        laptop: what `mvae reproduce --budget laptop` changes in the settings: epochs, rows, and where that makes few
            steps, their size.
        laptop_test_rows: how many test rows it scores: 1,000 samples of each cost a convolutional decoder more than its
            training.
    """

    name: str
    load: Callable[..., Dataset]
    modalities: Callable[[int], dict[str, Modality]]
    summary: str
    latent_dim: int
    epochs: int
    anneal_epochs: int
    batch_size: int
    learning_rate: float
    shown: tuple[str, ...]
    conditional: Callable[[int], CVAE] | None = None
    joint_encoder: Callable[[int], nn.Module] | None = None
    cross_from: tuple[str, ...] = ("image",)
    cross_share: float = CROSS_SHARE
    pseudo_labels: tuple[str, ...] = ()
    few_pairs_noise: float = 0.0
    few_pairs_shift: int = 0
    supervised_noise: float = 0.0
    supervised_shift: int = 0
    input_power: float = 1.0
    random_subsets: int = 0
    samples: int = 1000
    denominator_samples: int | None = None
    laptop: Mapping[str, Any] = field(default_factory=lambda: {"epochs": 60})
    laptop_test_rows: int = 1000
