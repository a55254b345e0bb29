"""English and Vietnamese (Sec. 7, App. K): two languages, each a modality, by the sequence VAE of Bowman et al."""

from dataclasses import replace
from functools import partial

from mvae.data.vocabulary import STOP, UNKNOWN
from mvae.modality.base import Modality
from mvae.modality.sentences import SentenceModality
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder
from mvae.paper.datasets import translation
from mvae.paper.experiments.base import Experiment

__all__ = ["TRANSLATION", "with_vocabulary"]


def modalities(latents: int, vocabulary: int = translation.VOCABULARY) -> dict[str, Modality]:
    """The same networks for both languages, λ = 1 (Sec. 7)."""

    def language() -> Modality:
        encoder = LSTMEncoder(vocabulary, 2 * latents, stop=STOP)
        decoder = LSTMDecoder(vocabulary, latents, unknown=UNKNOWN)
        return SentenceModality(encoder, decoder, translation.LENGTH, STOP)

    return {name: language() for name in translation.LANGUAGES}


# Sec. 7 gives latents, epochs and λ, and says that annealing is crucial, not for how long: annealed over a few hundred
# steps, the posterior collapses. Adam's rate is App. A's; the batch is Sec. 6's.
TRANSLATION = Experiment(
    "translation",
    translation.load,
    modalities,
    summary="English and Vietnamese sentences with LSTMs (Sec. 7); data by --data-dir",
    latent_dim=100,
    epochs=100,
    anneal_epochs=50,
    batch_size=50,
    learning_rate=1e-3,
    shown=("en=I have an idea .", "en=thank you .", "vi=tôi có một ý tưởng ."),
    cross_from=translation.LANGUAGES,
    samples=100,
    laptop={"epochs": 6},
)


def with_vocabulary(size: int | None, subwords: bool) -> Experiment:
    """The same with another number of words (None: 10,000), or with pieces of words."""
    size = translation.VOCABULARY if size is None else size
    load = partial(translation.load, vocabulary=size, subwords=subwords)
    return replace(TRANSLATION, load=load, modalities=partial(modalities, vocabulary=size))
