"""Images with one of ten labels: digits, MNIST, BinaryMNIST and FashionMNIST (Sec. 4, App. A, Fig. 5 and 6)."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from mvae import networks
from mvae.data.dataset import Dataset
from mvae.likelihoods import Bernoulli, Categorical
from mvae.modality.base import Modality
from mvae.models.cvae import CVAE
from mvae.networks import conv28 as dcgan
from mvae.networks.mlp import ConditionalMLP, ImageDecoder, LabelEncoder, mlp
from mvae.paper.datasets import binary_mnist, digits, fashion_mnist, mnist
from mvae.paper.experiments.base import Experiment

__all__ = ["BINARY_MNIST", "DIGITS", "FASHION_MNIST", "MNIST"]

APPENDIX_A: dict[str, Any] = {
    "latent_dim": 64,
    "epochs": 500,
    "anneal_epochs": 200,
    "batch_size": 100,
    "learning_rate": 1e-3,
}
MOVED: dict[str, Any] = {"few_pairs_noise": 0.3, "few_pairs_shift": 1, "supervised_noise": 0.3, "supervised_shift": 2}
LABEL_WEIGHT = 50.0  # λ of the label; the image has 1 (Sec. 4)


def _label(latents: int, hidden: int = 512) -> Modality:
    """One of ten classes (Fig. 5 and 6)."""
    encoder, decoder = LabelEncoder(10, 2 * latents, hidden), mlp(latents, 10, (hidden, hidden))
    return Modality(encoder, decoder, Categorical(), weight=LABEL_WEIGHT)


def _joint(network: str, shape: tuple[int, ...], hidden: int, latents: int) -> nn.Module:
    """JMVAE's encoder of image and label together."""
    features = {"image": network, "label": "label"}
    spec = {"network": "joint", "features": features, "hidden": hidden}
    return networks.build(spec, inputs={"image": shape, "label": (10,)}, outputs=2 * latents, role="joint")


def _perceptrons(
    name: str, load: Callable[..., Dataset], shape: tuple[int, ...], hidden: int, **settings: Any
) -> Experiment:
    """Fig. 5: two hidden layers each way."""
    pixels, widths = math.prod(shape), (hidden, hidden)

    def modalities(latents: int) -> dict[str, Modality]:
        image = Modality(mlp(pixels, 2 * latents, widths), ImageDecoder(latents, shape, widths), Bernoulli())
        return {"image": image, "label": _label(latents, hidden)}

    def conditional(latents: int) -> CVAE:
        encoder = ConditionalMLP(pixels, 10, 2 * latents, widths)
        decoder = ConditionalMLP(latents, 10, pixels, widths)
        return CVAE({"image": Modality(encoder, decoder, Bernoulli())}, latents, condition="label", classes=10)

    shown = tuple(f"label={digit}" for digit in (5, 0, 1, 2, 3, 4, 6, 7, 8, 9))
    return Experiment(
        name,
        load,
        modalities,
        conditional=conditional,
        joint_encoder=lambda latents: _joint("mlp", shape, hidden, latents),
        pseudo_labels=("label",),
        shown=shown,
        **settings,
    )


def _fashion_mnist() -> Experiment:
    """Fig. 6: a miniature DCGAN for the image; the label's networks and the settings are MNIST's (App. A)."""

    def modalities(latents: int) -> dict[str, Modality]:
        label = _label(latents)
        return {
            "image": Modality(dcgan.ConvEncoder(2 * latents), dcgan.ConvDecoder(latents), Bernoulli()),
            "label": label,
        }

    def conditional(latents: int) -> CVAE:
        image = Modality(dcgan.ConvEncoder(2 * latents, 10), dcgan.ConvDecoder(latents, 10), Bernoulli())
        return CVAE({"image": image}, latents, condition="label", classes=10)

    garments = fashion_mnist.CLASSES
    return Experiment(
        "fashion-mnist",
        fashion_mnist.load,
        modalities,
        conditional=conditional,
        joint_encoder=lambda latents: _joint("conv28", (1, 28, 28), 512, latents),
        pseudo_labels=("label",),
        few_pairs_shift=1,
        supervised_shift=1,
        input_power=0.5,
        cross_share=1.0,
        **APPENDIX_A,
        shown=tuple(f"label={garment}" for garment in (garments[-1], *garments[:-1])),
        laptop={"epochs": 12, "rows": 10_000},
        laptop_test_rows=300,
        summary="FashionMNIST with the paper's miniature DCGAN and settings (App. A)",
    )


DIGITS = _perceptrons(
    "digits",
    digits.load,
    (1, 8, 8),
    256,
    **APPENDIX_A | {"latent_dim": 16, "epochs": 150, "anneal_epochs": 50},
    few_pairs_noise=0.5,
    supervised_noise=0.6,
    laptop={"epochs": 150},
    summary="8×8 digits embedded in scikit-learn: no download, trains in under a minute",
)
MNIST = _perceptrons(
    "mnist",
    mnist.load,
    (1, 28, 28),
    512,
    **APPENDIX_A | MOVED,
    summary="MNIST with the paper's networks and settings (App. A)",
)
BINARY_MNIST = _perceptrons(
    "binary-mnist",
    binary_mnist.load,
    (1, 28, 28),
    512,
    **APPENDIX_A | MOVED,
    summary="MNIST binarised with a fixed seed, networks and settings as for MNIST",
)
FASHION_MNIST = _fashion_mnist()
