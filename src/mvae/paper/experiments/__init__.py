"""One experiment a dataset (App. A, E); models and recipes by name."""

import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch

from mvae.errors import SettingsError
from mvae.modality.base import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.mopoe import MoPoE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.mvtcae import MVTCAE
from mvae.models.telbo import TELBO
from mvae.models.vae import VAE
from mvae.paper.experiments.base import Experiment
from mvae.paper.experiments.celeba import CELEBA, CELEBA19, FACES, FACES19
from mvae.paper.experiments.labelled_images import BINARY_MNIST, DIGITS, FASHION_MNIST, MNIST
from mvae.paper.experiments.multimnist import MULTIMNIST
from mvae.paper.experiments.translation import TRANSLATION, with_vocabulary
from mvae.paper.experiments.vision import VISION, VISION_FACES
from mvae.paper.models.deterministic import Autoencoder, SupervisedNetwork
from mvae.paper.models.extremes import JointOnly, QuotientJointOnly, SinglesOnly
from mvae.paper.models.remedies import BoundedMVAE, PenalisedMVAE, RampedMVAE

__all__ = ["BASELINES", "EXPERIMENTS", "MODELS", "RECIPES", "Experiment", "build", "defines", "experiment"]

T = TypeVar("T")

_INITIALISING = threading.Lock()  # initial weights come from PyTorch's one generator for the CPU

# `paper` is Eq. 5 and nothing else. `coupled` adds one term, the image's posterior explaining the label too, without
# which image and label often decouple, and λ counts in full in single terms only (docs/research/coupling.md).
# Never mixed in one table.
RECIPES = ("paper", "coupled")


EXPERIMENTS = {
    e.name: e
    for e in (
        *(DIGITS, MNIST, BINARY_MNIST, FASHION_MNIST, MULTIMNIST),
        *(CELEBA, CELEBA19, FACES, FACES19, VISION, VISION_FACES),
        TRANSLATION,
    )
}

# α of the JMVAE: the only one that the paper states (Sec. 5.1, App. H), and two more to compare it with.
ALPHAS = {"jmvae": 0.01, "jmvae_alpha_0.1": 0.1, "jmvae_alpha_1": 1.0}


def _defined(what: Experiment, model: str, make: "Callable[[int], T] | None") -> "Callable[[int], T]":
    if make is None:
        raise SettingsError(f"there is no {model} for {what.name}: the paper defines no networks for it")
    return make


def _jmvae(what: Experiment, alpha: float) -> JMVAE:
    joint_encoder = _defined(what, "jmvae", what.joint_encoder)(what.latent_dim)
    return JMVAE(what.modalities(what.latent_dim), what.latent_dim, joint_encoder, alpha)


# Each model's own arguments besides modalities and latent_dim.
_BUILDERS: dict[str, Callable[[Experiment], MultimodalVAE]] = {
    "vae": lambda e: VAE(_first(e), e.latent_dim),
    "cvae": lambda e: _defined(e, "cvae", e.conditional)(e.latent_dim),
    "bivcca": lambda e: BiVCCA(e.modalities(e.latent_dim), e.latent_dim),
    **{name: partial(_jmvae, alpha=alpha) for name, alpha in ALPHAS.items()},
    "mvae_q": lambda e: MVAEQ(e.modalities(e.latent_dim), e.latent_dim),
    "telbo": lambda e: TELBO(e.modalities(e.latent_dim), e.latent_dim),
    "mmvae": lambda e: MMVAE(e.modalities(e.latent_dim), e.latent_dim),
    "mopoe": lambda e: MoPoE(e.modalities(e.latent_dim), e.latent_dim),
    "mvae_joint_only": lambda e: JointOnly(e.modalities(e.latent_dim), e.latent_dim, cross_from=()),
    "mvae_q_joint_only": lambda e: QuotientJointOnly(e.modalities(e.latent_dim), e.latent_dim),
    "mvae_singles_only": lambda e: SinglesOnly(e.modalities(e.latent_dim), e.latent_dim, cross_from=()),
    "mvae_ramped": lambda e: RampedMVAE(e.modalities(e.latent_dim), e.latent_dim, cross_from=()),
    "mvae_bounded": lambda e: BoundedMVAE(e.modalities(e.latent_dim), e.latent_dim, cross_from=()),
    "mvae_penalised": lambda e: PenalisedMVAE(e.modalities(e.latent_dim), e.latent_dim, cross_from=()),
    "mvtcae": lambda e: MVTCAE(e.modalities(e.latent_dim), e.latent_dim),
}
MODELS = ("mvae", *_BUILDERS)

# Baselines of Sec. 5.1, on the same networks: they classify (or make features), and generate nothing.
BASELINES: dict[str, Callable[[Experiment], MultimodalVAE]] = {
    "ae": lambda e: Autoencoder(_first(e), e.latent_dim),
    "nn": lambda e: SupervisedNetwork(e.modalities(e.latent_dim), e.latent_dim),
}


def defines(what: Experiment, model: str) -> bool:
    """Does the paper define the networks of this model for this dataset?

    >>> defines(experiment("mnist"), "cvae"), defines(experiment("multimnist"), "cvae")
    (True, False)
    """
    networks = {"cvae": what.conditional, **dict.fromkeys(ALPHAS, what.joint_encoder)}
    return networks.get(model, what) is not None


def _first(what: Experiment) -> dict[str, Modality]:
    name, modality = next(iter(what.modalities(what.latent_dim).items()))
    return {name: modality}


def experiment(name: str, vocabulary: int | None = None, subwords: bool = False) -> Experiment:
    """The experiment of that name; of sentences also with another vocabulary.

    Raises:
        SettingsError: there is none, or it has no vocabulary.
    """
    if name not in EXPERIMENTS:
        raise SettingsError(f"no dataset {name!r}; there are {', '.join(EXPERIMENTS)}")
    if vocabulary is None and not subwords:
        return EXPERIMENTS[name]
    if name != TRANSLATION.name:
        raise SettingsError(f"{name} is not of sentences: it has no vocabulary to choose")
    return with_vocabulary(vocabulary, subwords)


def build(
    what: Experiment,
    recipe: str = "coupled",
    seed: int = 0,
    model: str = "mvae",
    weights: Mapping[str, float] | None = None,
    random_subsets: int | None = None,
    shared_noise: bool = False,
    pseudo_labels: bool = False,
    cross_share: float | None = None,
) -> MultimodalVAE:
    """A freshly initialised model; its initial weights depend on the seed alone.

    Args:
        what: the experiment.
        recipe: of the MVAE; other models have their own objective.
        seed: of the initial weights.
        model: one of `MODELS`, or of `BASELINES`.
        weights: λ by modality, where not the experiment's.
        random_subsets: k of the MVAE, where not the experiment's.
        shared_noise: of the MVAE (see there).
        pseudo_labels: does the recipe `coupled` guess what rows lack?
        cross_share: of the recipe `coupled`, where not the experiment's.

    Raises:
        SettingsError: an unknown model, recipe or modality, a weight that is negative or not finite, or an argument of
            the MVAE for another model.
    """
    if model not in MODELS and model not in BASELINES:
        raise SettingsError(f"no model {model!r}; there are {', '.join(MODELS)}")
    if recipe not in RECIPES:
        raise SettingsError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    if model != "mvae" and (random_subsets is not None or shared_noise):
        raise SettingsError(f"random_subsets and shared_noise are the MVAE's; {model} has no such terms")
    if pseudo_labels and (model != "mvae" or recipe != "coupled"):
        raise SettingsError("pseudo labels belong to the recipe coupled of the MVAE")
    if pseudo_labels and not what.pseudo_labels:
        raise SettingsError(f"no modality of {what.name} is guessed: there are no pseudo labels to learn from")
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not those of GPUs, where another thread may be recording
        if model == "mvae":
            cross_from = what.cross_from if recipe == "coupled" else ()
            built = MVAE(
                what.modalities(what.latent_dim),
                what.latent_dim,
                random_subsets=what.random_subsets if random_subsets is None else random_subsets,
                cross_from=cross_from,
                shared_noise=shared_noise,
                pseudo_labels=what.pseudo_labels if pseudo_labels else (),
                cross_share=what.cross_share if cross_share is None else cross_share,
            )
        else:
            built = (_BUILDERS | BASELINES)[model](what)
    for name, weight in (weights or {}).items():
        if name not in built.names:
            raise SettingsError(f"no modality {name!r} to weigh; there are {', '.join(built.names)}")
        if not 0 <= weight < math.inf:
            raise SettingsError(f"the weight of {name} must be a finite number ≥ 0, not {weight}")
        built.modalities[name].weight = float(weight)
    return built
