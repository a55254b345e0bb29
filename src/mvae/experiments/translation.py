"""English and Vietnamese (Sec. 7, App. K): two languages, each a modality, by the sequence VAE of Bowman et al."""

from mvae.data import translation
from mvae.data.vocabulary import STOP, UNKNOWN
from mvae.experiments.base import Experiment
from mvae.modality import Modality
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder
from mvae.sentence import SentenceModality

__all__ = ["TRANSLATION"]


def modalities(latents: int) -> dict[str, Modality]:
    """The same networks for both languages, λ = 1 (Sec. 7)."""

    def language() -> Modality:
        encoder = LSTMEncoder(translation.VOCABULARY, 2 * latents, stop=STOP)
        decoder = LSTMDecoder(translation.VOCABULARY, latents, unknown=UNKNOWN)
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
