"""A model's modalities, and how data reaches them: any data as a checked table, a batch as what networks take."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from mvae.arguments import require_float64
from mvae.data.columns import Frame, Values, is_frame
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, SettingsError, abridged
from mvae.likelihoods import Bernoulli
from mvae.modality.base import Context, Modality
from mvae.modality.covariate import Covariate
from mvae.models.named_modules import NamedModules

__all__ = ["Data", "Inputs", "Parts"]

Data = Table | Mapping[str, Values] | Frame
"""The data that every query takes: a `Table`, arrays by modality, or a pandas data frame with a column per modality."""

Parts = Mapping[str, Modality | Covariate]
"""A model's modalities and covariates, by the names of a table's columns."""

CHECKED = 2**22  # values of a column checked at once, since data may be larger than memory


class Inputs(nn.Module):
    """A model's modalities, and the checks that precede every query; a base of `mvae.models.base.MultimodalVAE`."""

    #: Whether its modalities may include covariates.
    takes_covariates = True

    #: The number of features of the condition, if the networks take one besides x and z.
    context_dim = 0

    #: Modalities that no training row had: their networks still have random weights. None: `mvae.fit` was not called.
    untrained: tuple[str, ...] | None = None

    #: Whether to answer queries that condition on such a modality, or generate it, anyway.
    allow_untrained = False

    def __init__(self, modalities: Parts, latent_dim: int):
        super().__init__()
        self._covariates = NamedModules({n: part for n, part in modalities.items() if isinstance(part, Covariate)})
        modalities = {n: part for n, part in modalities.items() if isinstance(part, Modality)}
        if not modalities:
            raise SettingsError("a model needs at least one modality: MVAE({'image': Modality(...)}, ...)")
        if latent_dim < 1:
            raise SettingsError(f"latent_dim must be at least 1, not {latent_dim}")
        if "" in modalities:
            raise SettingsError("a modality's name must be a non-empty string, not ''")
        if covariates := list(self._covariates.by_name):
            if not self.takes_covariates:
                raise SettingsError(f"{type(self).__name__} takes no covariates ({', '.join(covariates)})")
            if not any(part.encoder_takes_context or part.decoder_takes_context for part in modalities.values()):
                raise SettingsError(
                    f"no network takes the covariates ({', '.join(covariates)}): give encoders or decoders whose "
                    "forward has a second argument, such as mvae.networks.build(..., condition=…)"
                )
            self.context_dim = sum(covariate.width for covariate in self.covariates.values())
        self._modalities = NamedModules(modalities)
        self.latent_dim = latent_dim
        require_float64(next((parameter.device for parameter in self.parameters()), "cpu"))

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Name → modality, in the model's order; read-only, as a model's modalities are those it was made of."""
        return MappingProxyType(cast("dict[str, Modality]", self._modalities.by_name))

    @property
    def covariates(self) -> Mapping[str, Covariate]:
        """Name → covariate."""
        return MappingProxyType(cast("dict[str, Covariate]", self._covariates.by_name))

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities' names, in order: the axis M of every mask."""
        return tuple(self._modalities.by_name)

    @property
    def weights(self) -> tuple[float, ...]:
        """λ of each modality (Eq. 2)."""
        return tuple(modality.weight for modality in self.modalities.values())

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the latents: that of the networks, but float32 at least."""
        return torch.promote_types(next(iter(self.modalities.values())).dtype, torch.float32)

    def fit_scalings(self, table: Table) -> None:
        """Fit the statistics by which values are scaled to the training rows, unless an earlier training has."""
        for name, part in self.modalities.items():
            part.fit_scaling(table, name)
        for name, covariate in self.covariates.items():
            covariate.fit(table, name)

    def _apply(self, fn: Any, recurse: bool = True) -> "Inputs":
        """Move to another device or precision.

        Raises:
            SettingsError: a device without float64.
        """
        require_float64(fn(torch.empty(0)).device)
        return cast("Inputs", super()._apply(fn, recurse))

    def prepare(self, batch: Table) -> dict[str, Tensor]:
        """A batch's columns as the networks take them, on the model's device."""
        here = batch.to(self.device)  # tensors, even if the batch holds a user's arrays
        x = {
            name: modality.prepare(cast("Tensor", here.columns[name]), here.observed.get(name))
            for name, modality in self.modalities.items()
            if name in here.columns
        }
        return x | {
            name: covariate.encode(cast("Tensor", here.columns[name]), batch.has(name), self.dtype)
            for name, covariate in self.covariates.items()
            if name in here.columns
        }

    def context(self, x: Mapping[str, Tensor]) -> Context:
        """The covariates, if any: what encoders and decoders are conditioned on besides x and z.

        Raises:
            QueryError: a covariate is missing.
        """
        if missing := [name for name in self.covariates if name not in x]:
            raise QueryError(
                f"this model is conditioned on {', '.join(missing)}: give it with the data, or as "
                f"covariates={{{missing[0]!r}: …}}"
            )
        columns = [x[name] for name in self.covariates]  # torch.compile treats an empty mapping proxy as true
        return torch.cat(columns, dim=1) if columns else None

    def as_table(self, data: Data, others: Collection[str] = ()) -> Table:
        """Convert any data to a table, and check that all its present values fit this model.

        Columns of a `Table` that are not modalities of the model are ignored; in a mapping or a frame such a name is
        an error, unless it is one of ``others``.

        Raises:
            QueryError: an unknown name. DataError: data that does not fit the model, with modality and row.
        """
        if not isinstance(data, Table):
            if not (isinstance(data, Mapping) or is_frame(data)):
                raise DataError(
                    f"data must be a mvae.Table, a mapping of arrays or a data frame, not a {type(data).__name__}"
                )
            given = list(data) if isinstance(data, Mapping) else list(cast("Any", data).columns)
            self._require_names([n for n in given if n not in self.covariates and n not in others], "data")
            data = Table(self.coded({name: cast("Any", data)[name] for name in given}) if self.covariates else data)
        if not len(data):
            raise DataError("the table has no rows: was it made by a mask that is true nowhere?")
        self.check(data)
        return data

    def coded(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns with covariates as numbers: names of categories become their codes.

        Raises:
            DataError: an unknown category, with its row.
        """
        own = self.covariates
        return {name: own[name].codes(values, name) if name in own else values for name, values in columns.items()}

    def check(self, table: Table, chunk: int = 4096) -> None:
        """Check that every present value of the table fits this model; reads it once, in chunks.

        Raises:
            DataError: a value does not fit; the message has the modality, the first such row, and what would fit.
            SettingsError: some networks are of float64 and others are not.
        """
        self._require_shared(table)
        self._require_one_dtype()
        for name, modality in self.modalities.items():
            if name in table.columns:
                self._check_column(table, name, modality, chunk)
        for name, covariate in self.covariates.items():
            covariate.check(table, name)

    def _require_one_dtype(self) -> None:
        learned = {
            name: modality.dtype
            for name, modality in self.modalities.items()
            if next(modality.parameters(), None) is not None
        }
        double = [name for name, dtype in learned.items() if dtype == torch.float64]
        if double and len(double) < len(learned):
            raise SettingsError(
                f"the networks of {', '.join(double)} are of float64, and others are not: model.to(torch.float32) or "
                "model.double() makes them alike"
            )

    def _check_column(self, table: Table, name: str, modality: Modality, chunk: int) -> None:
        here, brightest = table.has(name), 0.0
        at_once = max(1, min(chunk, CHECKED // max(1, math.prod(table.columns[name].shape[1:]))))
        for start in range(0, len(table), at_once):
            rows = here[start : start + at_once].nonzero().flatten() + start
            if not len(rows):
                continue
            part, observed = table.select_rows(name, rows).to(self.device), table.values_of(name, rows)
            observed = None if observed is None else observed.to(self.device)
            if modality.likelihood.levels > 1 and isinstance(modality.likelihood, Bernoulli):
                brightest = max(brightest, float(part.max()))
            try:
                bad, possible = modality.check(part, self.latent_dim, self.context_dim, observed)
            except DataError as error:
                raise DataError(f"modality {name!r}: {error}") from error.__cause__
            if bad.any():
                row = int(rows[bad.cpu()][0])
                raise DataError(
                    f"modality {name!r}, row {row}: {possible} are needed; fix the value or mark it as "
                    "missing with Table(..., present={...})"
                )
        if 0 < brightest <= 1:  # as levels of 255 they would silently be learned as 0 and 0.004
            raise DataError(
                f"modality {name!r} holds nothing above {brightest:g}, but its levels are 0 to "
                f"{modality.likelihood.levels:g}: give Bernoulli() without levels"
            )

    @property
    def known(self) -> tuple[str, ...]:
        """The names that a query may use: the modalities."""
        return self.names

    @property
    def answerable(self) -> tuple[str, ...]:
        """The `known` names that have been trained; all of them if `allow_untrained` is set."""
        return self.known if self.allow_untrained else tuple(n for n in self.known if n not in (self.untrained or ()))

    def require_known(self, names: Sequence[str], what: str = "modalities") -> None:
        """Raises QueryError unless this is a list of names that a query may use, all of them trained."""
        self._require_names(names, what)
        self._require_answerable(names)

    def _require_answerable(self, names: Iterable[str]) -> None:
        if random := [name for name in names if name not in self.answerable]:
            raise QueryError(
                f"no training row had {', '.join(random)}, so that an answer would come from random weights: query "
                "without it, train with rows that have it, or set model.allow_untrained = True"
            )

    def require_trained_in(self, table: Table, given: Sequence[str] | None = None) -> None:
        """Raises QueryError if rows of the table have a modality (among ``given``) that was never trained."""
        used = [name for name in self.untrained or () if given is None or name in given]
        self._require_answerable(name for name in used if table.has(name).any())

    def _require_names(self, names: Sequence[str], what: str) -> None:
        if isinstance(names, str):
            raise QueryError(f"name modalities in a list: [{names!r}]")
        if not isinstance(names, Sequence | set | frozenset):
            raise QueryError(f"{what} must be a list of modalities' names, not {abridged(names)}")
        for name in names:
            if not isinstance(name, str) or name not in self.known:
                raise QueryError(f"no modality {abridged(name)} in this model; it has {', '.join(self.known)}")

    def _require_generated(self, of: Sequence[str]) -> None:
        if conditions := [name for name in of if name not in self.names]:
            raise QueryError(f"{', '.join(conditions)}: a condition is given, and not generated")

    def _require_shared(self, table: Table) -> None:
        if not set(self.known) & set(table.names):
            raise DataError(
                f"the table ({', '.join(table.names)}) and the model ({', '.join(self.names)}) have no "
                "modality in common"
            )
