"""One experiment a dataset: its reader, its networks and the paper's settings (App. A, E)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mvae.data import binary_mnist, digits, fashion_mnist, mnist
from mvae.data.splits import Splits
from mvae.errors import SettingsError
from mvae.likelihoods import Bernoulli, Categorical
from mvae.modality import Modality
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.cvae import CVAE
from mvae.models.extremes import JointOnly, SinglesOnly
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.mopoe import MoPoE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.mvtcae import MVTCAE
from mvae.models.telbo import TELBO
from mvae.models.vae import VAE
from mvae.networks.dcgan import ConvDecoder, ConvEncoder, ConvJointEncoder
from mvae.networks.mlp import ConditionalMLP, ImageDecoder, JointEncoder, LabelEncoder, mlp

__all__ = ["EXPERIMENTS", "MODELS", "RECIPES", "Experiment", "build", "experiment"]

# `paper` is Eq. 5 and nothing else. `coupled` adds one term, the image's posterior explaining the label too, without
# which image and label are often learned side by side (docs/coupling.md). Never mixed in one table.
RECIPES: dict[str, tuple[str, ...]] = {"paper": (), "coupled": ("image",)}  # MVAE's cross_from


@dataclass(frozen=True)
class Experiment:
    """What `mvae train NAME` trains, with which networks and settings; networks are made for a number of latents.

    Every model of a dataset has the same networks for the same modality. ``conditional`` is the first modality with
    networks that also take the second (CVAE), ``joint_encoder`` the encoder of all modalities together (JMVAE).
    """

    name: str
    load: Callable[..., Splits]
    modalities: Callable[[int], dict[str, Modality]]
    conditional: Callable[[int], dict[str, Modality]]
    joint_encoder: Callable[[int], nn.Module]
    latent_dim: int
    epochs: int
    anneal_epochs: int
    batch_size: int
    learning_rate: float
    summary: str


_APPENDIX_A: dict[str, Any] = {"latent_dim": 64, "epochs": 500, "anneal_epochs": 200}  # MNIST and its relatives


def _image_and_label(
    name: str, load: Callable[..., Splits], shape: tuple[int, ...], hidden: int, **settings: Any
) -> Experiment:
    """Fig. 5: two hidden layers each way; λ = 1 for the image and 50 for the label (Sec. 4)."""
    pixels, widths = math.prod(shape), (hidden, hidden)

    def modalities(latents: int) -> dict[str, Modality]:
        image = Modality(mlp(pixels, 2 * latents, widths), ImageDecoder(latents, shape, widths), Bernoulli())
        label = Modality(LabelEncoder(10, 2 * latents, hidden), mlp(latents, 10, widths), Categorical(), weight=50.0)
        return {"image": image, "label": label}

    def conditional(latents: int) -> dict[str, Modality]:
        encoder = ConditionalMLP(pixels, 10, 2 * latents, widths)
        return {"image": Modality(encoder, ConditionalMLP(latents, 10, pixels, widths), Bernoulli())}

    def joint_encoder(latents: int) -> nn.Module:
        return JointEncoder(pixels, 10, 2 * latents, hidden)

    return Experiment(
        name, load, modalities, conditional, joint_encoder, batch_size=100, learning_rate=1e-3, **settings
    )


def _fashion_mnist() -> Experiment:
    """Fig. 6: a miniature DCGAN for the image; the label's networks and the settings are MNIST's (App. A)."""

    def modalities(latents: int) -> dict[str, Modality]:
        label = Modality(LabelEncoder(10, 2 * latents), mlp(latents, 10), Categorical(), weight=50.0)
        return {"image": Modality(ConvEncoder(2 * latents), ConvDecoder(latents), Bernoulli()), "label": label}

    def conditional(latents: int) -> dict[str, Modality]:
        return {"image": Modality(ConvEncoder(2 * latents, 10), ConvDecoder(latents, 10), Bernoulli())}

    def joint_encoder(latents: int) -> nn.Module:
        return ConvJointEncoder(10, 2 * latents)

    return Experiment(
        "fashion-mnist",
        fashion_mnist.load,
        modalities,
        conditional,
        joint_encoder,
        batch_size=100,
        learning_rate=1e-3,
        **_APPENDIX_A,
        summary="FashionMNIST with the paper's miniature DCGAN and settings (App. A)",
    )


EXPERIMENTS = {
    e.name: e
    for e in (
        _image_and_label(
            "digits",
            digits.load,
            (1, 8, 8),
            256,
            latent_dim=16,
            epochs=150,
            anneal_epochs=50,
            summary="8×8 digits embedded in scikit-learn: no download, trains in under a minute",
        ),
        _image_and_label(
            "mnist",
            mnist.load,
            (1, 28, 28),
            512,
            **_APPENDIX_A,
            summary="MNIST with the paper's networks and settings (App. A)",
        ),
        _image_and_label(
            "binary-mnist",
            binary_mnist.load,
            (1, 28, 28),
            512,
            **_APPENDIX_A,
            summary="MNIST binarised with a fixed seed, networks and settings as for MNIST",
        ),
        _fashion_mnist(),
    )
}

# Each model's own arguments besides modalities and latent_dim.
_BUILDERS: dict[str, Callable[[Experiment], MultimodalVAE]] = {
    "vae": lambda e: VAE(_first(e), e.latent_dim),
    "cvae": lambda e: CVAE(e.conditional(e.latent_dim), e.latent_dim, condition="label", classes=10),
    "bivcca": lambda e: BiVCCA(e.modalities(e.latent_dim), e.latent_dim),
    "jmvae": lambda e: JMVAE(e.modalities(e.latent_dim), e.latent_dim, e.joint_encoder(e.latent_dim)),
    "mvae_q": lambda e: MVAEQ(e.modalities(e.latent_dim), e.latent_dim),
    "telbo": lambda e: TELBO(e.modalities(e.latent_dim), e.latent_dim),
    "mmvae": lambda e: MMVAE(e.modalities(e.latent_dim), e.latent_dim),
    "mopoe": lambda e: MoPoE(e.modalities(e.latent_dim), e.latent_dim),
    "mvae_joint_only": lambda e: JointOnly(e.modalities(e.latent_dim), e.latent_dim),
    "mvae_singles_only": lambda e: SinglesOnly(e.modalities(e.latent_dim), e.latent_dim),
    "mvtcae": lambda e: MVTCAE(e.modalities(e.latent_dim), e.latent_dim),
}
MODELS = ("mvae", *_BUILDERS)


def _first(what: Experiment) -> dict[str, Modality]:
    name, modality = next(iter(what.modalities(what.latent_dim).items()))
    return {name: modality}


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in EXPERIMENTS:
        raise SettingsError(f"no dataset {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def build(
    what: Experiment,
    recipe: str = "coupled",
    seed: int = 0,
    model: str = "mvae",
    weights: Mapping[str, float] | None = None,
) -> MultimodalVAE:
    """A freshly initialised model; its initial weights depend on the seed alone.

    Args:
        what: the experiment.
        recipe: of the MVAE; other models have their own objective.
        seed: of the initial weights.
        model: one of `MODELS`.
        weights: λ by modality, where not the experiment's.

    Raises:
        SettingsError: an unknown model, recipe or modality, or a weight that is negative or not finite.
    """
    if model not in MODELS:
        raise SettingsError(f"no model {model!r}; there are {', '.join(MODELS)}")
    if recipe not in RECIPES:
        raise SettingsError(f"no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model == "mvae":
            built = MVAE(what.modalities(what.latent_dim), what.latent_dim, cross_from=RECIPES[recipe])
        else:
            built = _BUILDERS[model](what)
    for name, weight in (weights or {}).items():
        if name not in built.names:
            raise SettingsError(f"no modality {name!r} to weigh; there are {', '.join(built.names)}")
        if not 0 <= weight < math.inf:
            raise SettingsError(f"the weight of {name} must be a finite number ≥ 0, not {weight}")
        built.modalities[name].weight = float(weight)
    return built
