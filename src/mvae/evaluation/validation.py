"""Validation while a model learns: the objective on held-out rows, and every instrument, in one pass."""

import math

import torch

from mvae.data.table import Table
from mvae.errors import DataError
from mvae.evaluation.coupling import Instruments
from mvae.evaluation.means import Means
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data

__all__ = ["validate"]

PIXELS = 2_500_000  # of images decoded at once: the activations of a chunk have to fit into memory


@torch.no_grad()
def validate(model: MultimodalVAE, data: Data, chunk: int = 1000) -> dict[str, float]:
    """Measure the validation objective and every instrument in one pass, with the same noise each time.

    Args:
        model: any model.
        data: a table, a mapping of arrays or a data frame.
        chunk: rows at once, at most; which noise a row gets depends on it.

    Returns:
        `objective`: the sum of the terms' −ELBO (full and singles) with β = 1 and the training λ (nats per example;
        lower is better), by which a model is selected; `objective/unweighted`: with λ = 1, and without what some models
        add to the ELBO (penalties, importance weights); `reconstruction/NAME`, `kl/full`, `kl/NAME`.

        On rows with A and B: `log p A->B` and `accuracy A->B`, where B is predicted from the mean of q(z|A);
        `log predictive A->B`, `gain A->B` and `gain A->B s.e.`, how much A tells about B in nats
        (`mvae.evaluation.coupling`). On complete rows: `kl complete/NAME`, `coupling`, `coupling/share`,
        `active units`; and `active units/NAME`. `dead/NAME` and `saturated/NAME` where an expert is. (With more than 8
        modalities, only the first predicts others. For a string, log p is that of the true string, and accuracy that of
        the freely written one: of its symbols, and `accuracy A->B whole`. A model without a posterior given everything
        has no coupling, and active units of single modalities only.) A modality that was never trained
        (`mvae.MVAE.untrained`) counts as missing. For real values, nats refer to the data's own units.

    Raises:
        DataError: data that does not fit the model.
    """
    return validate_checked(model, model.as_table(data), chunk)


@torch.no_grad()
def validate_checked(model: MultimodalVAE, table: Table, chunk: int = 1000) -> dict[str, float]:
    """`validate` for a table that has already been checked, as in training."""
    widest = max(math.prod(column.shape[1:]) for column in table.columns.values())
    generator = torch.Generator(model.device).manual_seed(0)
    means, instruments = Means(), Instruments(model)
    with evaluating(model):
        for batch in table.batches(max(1, min(chunk, PIXELS // max(1, widest)))):
            batch = _trained_part(model, batch)
            if batch is None:
                continue
            rows, x = len(batch), model.prepare(batch)
            terms = model.evaluation_terms(batch.presence(model.names))
            shape = len(terms.names), rows, model.latent_dim
            noise = torch.randn(shape, generator=generator, device=model.device, dtype=model.dtype)
            result = model.objective(x, terms, noise)
            means.add("objective", result.loss * rows, rows)
            unweighted = (result.terms.weight * (result.kl - result.terms.by_term(result.log_prob))).sum()
            means.add("objective/unweighted", unweighted, rows)
            for name, value, count in zip(result.parts[1:], result.sums()[1:], result.counts()[1:], strict=True):
                means.add(name, value, count)
            instruments.add(batch, x)
        found = means.values() | instruments.values()
    if "objective" not in found:
        raise DataError(f"no row has anything but {', '.join(model.untrained or ())}, which was never trained")
    return found


def _trained_part(model: MultimodalVAE, batch: Table) -> Table | None:
    """The batch without modalities whose networks are still random; None if nothing is left."""
    names = [name for name in batch.names if name not in model.names or name in model.answerable]
    if len(names) == len(batch.names):
        return batch
    has = batch.presence([name for name in names if name in model.names]).any(1).expand(len(batch))
    return batch.take(has).select(names) if has.any() else None
