"""What every model promises, here for all of them: missing cells have no effect, training works, queries are answered.

The VAE and the CVAE, which model one modality, have these tests in their own files.
"""

from collections.abc import Callable

import pytest

import mvae.models
from mvae.models.base import MultimodalVAE
from mvae.models.bivcca import BiVCCA
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.mmvae_plus import MMVAEPlus
from mvae.models.mmvm import MMVM
from mvae.models.mopoe import MoPoE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.mvtcae import MVTCAE
from mvae.models.telbo import TELBO
from mvae.paper.models.remedies import BoundedMVAE, PenalisedMVAE, RampedMVAE
from tests.models.common import (
    KINDS,
    assert_answers_all_queries,
    assert_empty_row_adds_nothing,
    assert_missing_values_ignored,
    assert_trains,
    parts,
)


def second_stage() -> TELBO:
    model = TELBO(parts(), 2)
    model.stage = "unimodal"
    return model


MODELS: dict[str, Callable[[], MultimodalVAE]] = {
    "bivcca": lambda: BiVCCA(parts(), 2),
    "jmvae": lambda: JMVAE(parts(), 2, alpha=0.3).double(),
    "mmvae": lambda: MMVAE(parts(), 2, samples=3, dreg=False),
    "mmvae, dreg": lambda: MMVAE(parts(), 2, samples=3, dreg=True),
    "mmvae_plus": lambda: MMVAEPlus(parts(latent=5), 5, 3, samples=3, dreg=False),
    "mmvae_plus, dreg": lambda: MMVAEPlus(parts(latent=5), 5, 3, samples=3, dreg=True),
    "mmvm": lambda: MMVM(parts(), 2),
    "mopoe": lambda: MoPoE(parts(), 2),
    "mvae": lambda: MVAE(parts(), 2),
    "mvae_q": lambda: MVAEQ(parts(), 2),
    "mvtcae": lambda: MVTCAE(parts(), 2),
    "telbo": lambda: TELBO(parts(), 2),
    "telbo, second stage": second_stage,
    "ramped": lambda: RampedMVAE(parts(), 2),
    "bounded": lambda: BoundedMVAE(parts(), 2),
    "penalised": lambda: PenalisedMVAE(parts(), 2),
}
RANDOM: dict[str, Callable[[], MultimodalVAE]] = {  # their terms differ from call to call
    "mopoe": lambda: MoPoE(parts(), 2, drawn=2),
    "mvae": lambda: MVAE(parts(), 2, random_subsets=1),
    "mvae_q": lambda: MVAEQ(parts(), 2, random_subsets=1),
}
OF_SOME_SUBSETS = ("bivcca", "jmvae", "mmvae", "mmvae, dreg")  # their own files have tests of their queries
WITHOUT_JOINT = ("bivcca", "mmvae", "mmvae, dreg")  # no posterior whose usage could be measured given all modalities


def test_every_registered_model_is_tested() -> None:
    assert {name.partition(",")[0] for name in MODELS} >= mvae.models.MODELS.keys() - {"vae", "cvae"}


@pytest.mark.parametrize("name", MODELS)
def test_missing_values_are_ignored(name: str) -> None:
    assert_missing_values_ignored(MODELS[name]())
    assert_empty_row_adds_nothing(MODELS[name]())


@pytest.mark.parametrize("name", MODELS)
def test_model_trains_and_validates(name: str) -> None:
    measured = assert_trains(MODELS[name]).keys()
    assert {"log p image->label", "accuracy image->label"} <= measured
    joint = {"coupling", "active units", "kl complete/full"}
    if name in WITHOUT_JOINT:
        assert {f"{metric}/{kind}" for metric in ("kl complete", "active units") for kind in KINDS} <= measured
        assert not {*joint, "coupling/share", "_kl/full"} & measured
    elif not name.startswith(("mmvm", "mmvae_plus")):
        assert joint <= measured


@pytest.mark.parametrize("name", RANDOM)
def test_model_with_random_terms_trains_and_validates(name: str) -> None:
    assert {"coupling", "active units", "log p image->label"} <= assert_trains(RANDOM[name]).keys()


@pytest.mark.parametrize("name", [name for name in MODELS if name not in OF_SOME_SUBSETS])
def test_model_answers_all_queries(name: str) -> None:
    assert_answers_all_queries(MODELS[name]())
