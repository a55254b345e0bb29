"""A modality of columns of different kinds, any single value of which may be missing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mvae.data.fields import CLASSED, Field, fields_of
from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.likelihoods.columns import Fieldwise
from mvae.modality.augment import Hide
from mvae.modality.base import Context, Modality, takes_context
from mvae.modality.field_scaling import FieldScaling
from mvae.modality.linear_posterior import linear_posterior
from mvae.networks.columns import FARTHEST, ColumnFeatures
from mvae.networks.mlp import mlp

__all__ = ["HIDE", "Columns", "ColumnsModality"]

HIDE = 0.1  # share of the observed values hidden from the encoder in training


class ColumnsModality(Modality):
    """An ordered list of fields, each of a kind (`mvae.data.fields.Field`), with a mask per value.

    A column in a table is a matrix ``rows fields`` of numbers in the user's units: class numbers of categories, 0 and 1
    of binary fields, seconds of dates. Missing values (by ``present`` of `mvae.Table`) are neither encoded, nor
    scored, nor part of any statistic. Answers and log p are in the user's units. In training, a tenth of the observed
    values is hidden from the encoder but still scored: this is how the model learns to impute.

    Args:
        fields: fields, names (of real fields) or mappings of `Field`'s arguments.
        encoder: features ``rows features`` → ``rows 2·latent`` (`ColumnFeatures` says what they are).
        decoder: ``N latent`` → ``N size`` parameters (`mvae.likelihoods.columns.Fieldwise`).
        weight: λ, as for `Modality`.
        augment: augmentations of the encoder's input in training; default ``Hide(0.1)``.
        linear_start: the encoder's network corrects `linear_posterior`, the posterior that z would have if the numbers
            were linear in it, with the decoder's slopes around z = 0. Imputations of correlated numbers are better
            from some 200 rows on. For decoders without batch norm, dropout or covariates.

    `ColumnsModality.of` makes the networks.

    Raises:
        SettingsError: as `Modality` and `fields_of`.

    >>> labs = mvae.Columns.of(["hb", {"name": "stage", "kind": "ordinal", "classes": 4}], latent_dim=2)
    >>> table = mvae.Table({"labs": torch.tensor([[7.1, 3.0], [float("nan"), 0.0]])},
    ...                    present={"labs": torch.tensor([[True, True], [False, True]])})
    >>> mvae.MVAE({"labs": labs}, latent_dim=2).posterior(table).mean.shape
    torch.Size([2, 2])
    """

    likelihood: Fieldwise
    scaling: FieldScaling
    takes_holes = True

    def __init__(
        self,
        fields: Iterable[Field | str | Mapping[str, Any]],
        encoder: nn.Module,
        decoder: nn.Module,
        weight: float = 1.0,
        augment: Callable[..., Any] | str | Mapping[str, Any] | Sequence[Any] | None = None,
        linear_start: bool = False,
    ):
        fields = fields_of(fields)
        super().__init__(encoder, decoder, Fieldwise(fields), weight, Hide(HIDE) if augment is None else augment)
        self.fields = fields
        self.scaling = FieldScaling(fields)
        self.features = ColumnFeatures(fields)
        self.linear_start = linear_start
        if linear_start and (takes_context(decoder, needs=False) or any(map(_differs_in_training, decoder.modules()))):
            raise SettingsError(
                "linear_start needs a decoder of z alone, without batch norm and dropout: set linear_start to false"
            )
        self.stretch = nn.Buffer(torch.ones(()))  # factor on draws' distances from their mean (`stretched`)

    @classmethod
    def of(
        cls,
        fields: Iterable[Field | str | Mapping[str, Any]],
        latent_dim: int,
        hidden: Sequence[int] = (128, 128),
        **options: Any,
    ) -> "ColumnsModality":
        """A modality whose encoder and decoder are perceptrons with these hidden layers."""
        fields = fields_of(fields)
        features, size = ColumnFeatures(fields).size, Fieldwise(fields).size
        return cls(fields, mlp(features, 2 * latent_dim, hidden), mlp(latent_dim, size, hidden), **options)

    @property
    def has_mean(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all fields are numbers. (Class numbers have no mean.)"""
        return not any(field.kind in CLASSED for field in self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    def prepare(
        self, x: Float[Tensor, "rows fields"], observed: Bool[Tensor, "rows fields"] | None = None
    ) -> Float[Tensor, "rows fields"]:
        """Values as they are modelled (`FieldScaling`), NaN where they are missing."""
        u = self.scaling.standardised(x)
        u = u if observed is None else torch.where(observed, u, torch.nan)
        return self.likelihood.prepare(u, self.dtype)

    def fit_scaling(self, table: Table, name: str) -> None:
        """Fit scales and frequencies to the observed training values, unless an earlier training has.

        Each training widens the range of training values.
        """
        if self.scaling.fitted:
            self.scaling.widen(table, name)
        elif bool(table.has(name).any()):
            super().fit_scaling(table, name)

    def encoder_input(self, x: Float[Tensor, "rows fields"]) -> Float[Tensor, "rows features"]:
        """`ColumnFeatures` of the values that are observed and, in training, not hidden."""
        plain = self.scaling.in_units(x) if len(self.features.dates) else x
        return self.features(self.scaling.as_features(x), plain)

    def expert_parameters(
        self, x: Float[Tensor, "rows fields"], context: Context = None
    ) -> tuple[Float[Tensor, "rows latent"], Float[Tensor, "rows latent"]]:
        """The encoder's mean and log-variance; with ``linear_start`` relative to those of `linear_posterior`."""
        seen = self.augmented(x)
        mean, log_var = self.run_encoder(self.encoder_input(seen), context)
        if not self.linear_start:
            return mean, log_var
        start, precision = self._linear_posterior(seen, mean.shape[1])
        return mean + start, log_var - precision.log()

    @torch.no_grad()
    def _linear_posterior(self, x: Float[Tensor, "rows fields"], latents: int) -> tuple[Tensor, Tensor]:
        """`linear_posterior` with the decoder's slopes over one standard deviation of z to both sides."""
        with torch.autocast(x.device.type, enabled=False):
            unit = torch.eye(latents, device=x.device, dtype=x.dtype)
            params = self.parameters_of(torch.cat([torch.zeros_like(unit[:1]), unit, -unit]))
            middle, up, down = self.likelihood.numbers(params).split([1, latents, latents])
            spread = self.likelihood.spread(params[0])
            precision = torch.where(spread > 0, spread**-2, 0.0)
            return linear_posterior(x.clamp(-FARTHEST, FARTHEST) - middle, (up - down) / 2, precision)

    def score(self, params: Tensor, x: Float[Tensor, "rows fields"]) -> Float[Tensor, "*samples rows"]:
        """log p of the observed values, as a density in the user's units."""
        slope = self.scaling.log_slope(x).masked_fill(x.isnan(), 0.0)
        return self.likelihood.log_prob(params, x) + slope.sum(-1)

    def generate(
        self,
        z: Float[Tensor, "*lead latent"],
        context: Context = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*lead fields"]:
        """x ~ p(x | z) in the user's units; with ``mean=True`` the mean of numbers and the most probable classes."""
        params = self.parameters_of(z, context)
        return self.scaling.near_training(self.point(params) if mean else self.sampled(params, generator))

    def sampled(
        self, params: Float[Tensor, "*lead size"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*lead fields"]:
        """x ~ p(x | z) in the user's units, from the likelihood's parameters; not clamped near training."""
        return self.scaling.in_units(self.likelihood.sample(params, generator))

    def stretched(
        self, draws: Float[Tensor, "draws rows fields"], middle: Float[Tensor, "rows fields"]
    ) -> Float[Tensor, "draws rows fields"]:
        """Draws of rows, as `sampled` returns them, moved away from their ``middle`` by the factor ``stretch``.

        Distances are on the scale on which the field is modelled, which is also that of ``middle``. Counts and classes
        stay unchanged, and so do draws at or beyond an end of the generated range (`FieldScaling.ends`).
        """
        if self.stretch == 1:
            return draws
        u = self.scaling.standardised(draws.flatten(0, 1)).reshape(draws.shape)
        found = self.scaling.in_units(middle + self.stretch * (u - middle)).to(draws.dtype)
        low, high = self.scaling.ends
        return torch.where(self.scaling.scaled & (draws > low) & (draws < high), found, draws)

    def parameters_of(self, z: Float[Tensor, "*lead latent"], context: Context = None) -> Float[Tensor, "*lead size"]:
        """The likelihood's parameters for every z."""
        return self.likelihood.arrange(self.decode(z, context), z.shape[:-1], torch.Size([len(self.fields)]))

    def point(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """E[x | z] of numbers, in the user's units and float64; for classes, the most probable one.

        Values are not clamped near training (`FieldScaling.near_training`).
        """
        return self.scaling.mean_in_units(self.likelihood.mode(params), self.likelihood.spread(params))

    def means(self, params: Float[Tensor, "*lead size"]) -> Float[Tensor, "*lead fields"]:
        """`point` for numbers; 0 for classes."""
        return self.scaling.mean_in_units(self.likelihood.numbers(params), self.likelihood.spread(params))

    def correct(
        self,
        x: Float[Tensor, "rows fields"],
        z: Float[Tensor, "rows latent"],
        context: Context = None,
        params: Tensor | None = None,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """How many of the observed classes are predicted correctly; empty if no field has classes."""
        if not any(field.kind in (*CLASSED, "binary") for field in self.fields):
            return {}
        right, there = self.likelihood.right(self.parameters_of(z, context) if params is None else params, x)
        return {"": (right.sum(1).to(x.dtype), there.sum(1).to(x.dtype))}

    @torch.no_grad()
    def check(
        self,
        x: Float[Tensor, "rows fields"],
        latent_dim: int,
        context_dim: int = 0,
        observed: Bool[Tensor, "rows fields"] | None = None,
    ) -> tuple[Tensor, str]:
        """Check that these rows fit: reads every observed value; see `Modality.check`.

        Raises:
            DataError: the dtype, the shape or a network does not fit.
        """
        self.scaling.require_fields(x)
        bad, possible = self.scaling.invalid_values(x, observed)
        return (bad.any(1), possible) if bad.any() else super().check(x, latent_dim, context_dim, observed)


def _differs_in_training(network: nn.Module) -> bool:
    return isinstance(network, _NormBase | nn.modules.dropout._DropoutNd)


Columns = ColumnsModality  # its public name
