"""How an exported model combines the experts of the given modalities, as a rule that ten lines of NumPy can follow."""

from dataclasses import dataclass

import torch

from mvae.errors import QueryError
from mvae.gaussian import Gaussian
from mvae.models.base import MultimodalVAE
from mvae.models.plan import Experts, anything, at_most_one

__all__ = ["Rule", "posterior_rule"]

EXPERT = "Each encoder gives its expert's precision and its precision times its mean. "
SUMS = "the mean is the second sum over the first, the variance 1 over the first. "
NOTHING = "With nothing given, z is drawn from N(0, I). "
TEXTS = {
    "product": "q(z | given) is a product of Gaussian experts, one for each modality that is given. " + EXPERT + "Add "
    "them up over all given modalities, and add prior_precision (its entry for nothing, one or several given) to the "
    "precision: it is 1 where N(0, I) is one more expert; " + SUMS,
    "one": "q(z | given) is the Gaussian of the one modality that is given. " + EXPERT + "Give one modality at a time: "
    "this model's encoder of all of them together is not exported. ",
    "experts": "q(z | given) is an even mixture of Gaussians, one for each modality that is given: draw each z from "
    "one of them. " + EXPERT,
    "subsets": "q(z | given) is an even mixture with a component for each subset of what is given, the product of its "
    "experts: draw each z from one of them. " + EXPERT + "Add them up over the subset; " + SUMS,
}
ALONE = "Where a single modality is given, its encoder_alone replaces its encoder. "


@dataclass(frozen=True)
class Rule:
    """How experts combine.

    Args:
        combine: "product" of all given modalities; "one": only a single modality can be given; an even mixture of
            "experts", or of the products of all "subsets".
        prior_precision: precision that the prior adds to the posterior given one modality, and given several.
        alone: separate encoders for a modality given by itself (TELBO); None: the same encoders for all subsets.
    """

    combine: str
    prior_precision: tuple[float, float]
    alone: Experts | None = None

    @property
    def text(self) -> str:
        """The rule in words, as one paragraph."""
        return (
            TEXTS[self.combine] + (ALONE if self.alone is not None else "") + NOTHING + "Then run decoders."
        ).strip()


def posterior_rule(model: MultimodalVAE) -> Rule:
    """The rule of a model.

    Raises:
        QueryError: no such rule describes the model's posterior or networks; the message says what can be done.
    """
    kind, instead = type(model).__name__, "use it in Python (mvae.load), or export a model that is named mvae"
    if covariates := list(model.covariates):
        raise QueryError(
            f"the networks of this model are conditioned on {', '.join(covariates)}, which is not exported: use it in "
            "Python (mvae.load), or train it without covariates"
        )
    if model.context_dim:
        raise QueryError(f"the networks of a {kind} take its condition besides z, which is not exported: {instead}")
    if type(model).posterior_given is not MultimodalVAE.posterior_given:
        raise QueryError(
            f"a {kind} combines shared and private latents by a rule of its own, which is not exported: {instead}"
        )
    experts = [encoder for encoder in model.encoders if isinstance(encoder, Experts)]
    single = next(encoder for encoder in experts if encoder.used in (anything, at_most_one))
    several = next((encoder for encoder in experts if encoder.used is not at_most_one), None)
    if several is not None and several.encode is not None:
        raise QueryError(f"a {kind} has encoders of its own for several modalities, which are not exported: {instead}")
    count = len(model.names)
    mixed = model.mixed(torch.ones(1, count, dtype=torch.bool)) if count > 1 else None
    combine = "one" if several is None and count > 1 else "product"
    if mixed is not None:
        combine = "experts" if len(mixed) == count else "subsets"
    alone = single if single.encode is not None else None
    return Rule(combine, (_prior_precision(single), _prior_precision(several or single)), alone)


def _prior_precision(encoder: Experts) -> float:
    """The precision that the prior adds to that of the experts."""
    own = Gaussian(torch.full((2, 1, 1), 2.0), torch.zeros(2, 1, 1))
    return float(encoder.combine(own, torch.eye(1, 2).bool()[None]).precision) - 2.0
