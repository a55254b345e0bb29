"""The conditional VAE of Sohn et al. (2015): only p(x1 | x2), with x2 given to encoder and decoder (Sec. 3)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError
from mvae.gaussian import Gaussian
from mvae.modality.base import Context, Modality, takes_context
from mvae.modality.scaling import Scaling
from mvae.models.base import MultimodalVAE
from mvae.models.plan import JointEncoder, at_most_one

__all__ = ["CVAE"]


class CVAE(MultimodalVAE):
    """Encoder q(z | x1, x2), decoder p(x1 | z, x2), prior N(0, I).

    log p(x1 | x2) = log E_{q(z | x1, x2)}[p(x1 | z, x2) p(z) / q(z | x1, x2)]: there is no denominator, and no joint
    distribution either.

    Args:
        modalities: exactly one, name → `Modality`; its encoder and decoder take the condition as a second argument.
        latent_dim: the number of latents D.
        condition: the column conditioned on, present in every row: class numbers (passed one-hot) or numbers.
        classes: how many classes it has, or None for a column of numbers.
        features: how many numbers a row of such a column has.
        standardise: pass these numbers in standard deviations from their mean (`mvae.modality.scaling`).

    Raises:
        SettingsError: more than one modality, networks that do not take the condition, or no classes and no features.
    """

    needs_complete = True
    conditional = True
    takes_covariates = False

    @checked_arguments()
    def __init__(
        self,
        modalities: Mapping[str, Modality],
        latent_dim: int,
        condition: str = "label",
        classes: int | None = 10,
        features: int = 0,
        standardise: bool = True,
    ):
        super().__init__(modalities, latent_dim)
        if len(self.names) != 1:
            raise SettingsError(f"a CVAE models one modality given another, not {len(self.names)}")
        modality = self.modalities[self.names[0]]
        if not all(takes_context(network, needs=False) for network in (modality.encoder, modality.decoder)):
            raise SettingsError("a CVAE's encoder and decoder take the condition as a second argument of forward")
        modality.encoder_takes_context = modality.decoder_takes_context = True  # optional in convolutional ones
        if (features if classes is None else classes) < 1:
            raise SettingsError("a CVAE's condition needs classes ≥ 1, or classes=None and features ≥ 1")
        self.condition, self.classes = condition, classes
        self.context_dim = classes if classes is not None else features
        self.scaling = Scaling() if classes is None and standardise else None

    def prepare(self, batch: Table) -> dict[str, Tensor]:
        """The modality, and the condition as numbers ``rows features``.

        Raises:
            DataError: the condition is missing, entirely or in some row.
        """
        self._require_condition(batch)
        column = torch.as_tensor(batch.columns[self.condition]).to(self.device)
        if self.classes is not None:
            column = F.one_hot(column.long().flatten(), self.classes)
        elif self.scaling is not None:
            column = self.scaling.standardised(column)
        column = column.reshape(len(column), -1)
        return super().prepare(batch) | {self.condition: column.to(self.dtype)}

    def _require_condition(self, table: Table) -> None:
        if self.condition not in table.columns:
            raise DataError(f"a CVAE needs its condition: the table has no column {self.condition!r}")
        table.require_whole(self.condition)
        if not (has := table.has(self.condition)).all():
            row = int((~has).nonzero()[0, 0])
            raise DataError(f"a CVAE needs its condition {self.condition!r} in every row; row {row} lacks it")

    def fit_scalings(self, table: Table) -> None:
        """Fit the scalings of the modality and of the condition."""
        super().fit_scalings(table)
        if self.scaling is not None and not self.scaling.fitted:
            self.scaling.fit(table, self.condition)

    def check(self, table: Table, chunk: int = 4096) -> None:
        """Check that every present value fits this model, and that every row has a possible condition.

        Raises:
            DataError: a value does not fit; the message has the column, the first such row, and what would fit.
        """
        super().check(table, chunk)
        self._require_condition(table)
        for start in range(0, len(table), chunk):
            column = table.select_rows(self.condition, torch.arange(start, min(start + chunk, len(table))))
            if self.classes is not None:
                possible, size = f"whole numbers from 0 to {self.classes - 1}", 1
                bad = (column < 0) | (column >= self.classes) | (column != column.long())
            else:
                possible, size = "finite numbers", self.context_dim
                bad = ~column.isfinite()
            if (found := column[0].numel()) != size:
                raise DataError(f"condition {self.condition!r}: rows of {found} values, not {size}")
            if (wrong := bad.reshape(len(bad), -1).any(1)).any():
                row = start + int(wrong.nonzero()[0, 0])
                raise DataError(f"condition {self.condition!r}, row {row}: {possible} are needed")

    def context(self, x: Mapping[str, Tensor]) -> Context:
        """The condition, for the decoder.

        Raises:
            QueryError: the condition is missing.
        """
        if self.condition not in x:
            raise QueryError(f"a CVAE generates given its condition {self.condition!r} only")
        return x[self.condition]

    @property
    def known(self) -> tuple[str, ...]:
        """A query may also name the condition."""
        return (*self.names, self.condition)

    @property
    def encoders(self) -> tuple[JointEncoder, ...]:
        """q(z | x1, x2); the prior where x1 is not given."""
        return (JointEncoder(self._encode, (*self.names, self.condition), at_most_one),)

    def _encode(self, x: Mapping[str, Tensor]) -> Gaussian:
        ((name, modality),) = self.modalities.items()
        return self.to_expert(*modality.expert_parameters(x[name], x[self.condition]))

    def plan_query(self, of: Sequence[str], given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """Only log p(x1 | x2), which its decoder gives without a denominator.

        Raises:
            QueryError: any other query.
        """
        if list(of) != list(self.names) or list(given) != [self.condition]:
            raise QueryError(f"a CVAE answers log p({self.names[0]} | {self.condition}) only")
        return of, ()
