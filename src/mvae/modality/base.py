"""Modality: one kind of observation, with its encoder q̃(z | x), its decoder and its likelihood p(x | z)."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from mvae.arguments import checked_arguments
from mvae.data.table import Table
from mvae.errors import DataError, SettingsError
from mvae.gaussian import Gaussian
from mvae.likelihoods import Categorical, Likelihood
from mvae.likelihoods import named as named_likelihood
from mvae.modality import augment as augmentation
from mvae.modality.modes import evaluating
from mvae.modality.scaling import Scaling

__all__ = ["Context", "Modality", "run", "takes_context"]

Context = Float[Tensor, "rows features"] | None
"""What networks are conditioned on besides x and z: covariates, or a CVAE's condition; None: nothing."""


class Modality(nn.Module):
    """One modality x_i of the model: ``encode``, ``log_prob`` and ``generate`` (Fig. 1b).

    Args:
        encoder: ``rows event…`` → ``rows 2·latent`` (mean, then log-variance), or the pair of them.
        decoder: ``N latent`` → ``N …``, the parameters of the likelihood. A network whose ``forward`` has a second
            argument gets the model's covariates (or a CVAE's condition) there, ``rows features``.
        likelihood: the family of p(x | z): a `mvae.likelihoods.Likelihood` or the name of one, such as ``"bernoulli"``.
        weight: λ of this modality's reconstruction in every ELBO (Eq. 2). Sec. 4 uses 1 for images, 50 for labels.
        augment: an augmentation of the encoder's input in training: a callable ``(x, generator) → x`` or a name of
            `mvae.modality.augment`, or several, applied in order. It keeps the encoder from memorising few examples.
        view: a callable ``x → x``, or a name from there, always applied to the encoder's input, before ``augment``.
            Default: the likelihood's (log1p of normalised counts for counts, else x itself).
        standardise: learn from real values (of likelihoods with ``real = True``: Gaussian, Laplace) in standard
            deviations from their mean, by the training values that `mvae.fit` sees (`mvae.modality.scaling`). Generated
            values and log p are in the data's own units; a likelihood's ``scale``, ``view`` and ``augment`` apply to
            standardised values. ``False``: learn from values as they are. Pictures with ``levels`` need no scaling.
        class_weights: a factor for each class of a `Categorical`, by which λ is multiplied in rows of that class. They
            change the objective (also the one by which weights are selected), but no log p.

    Raises:
        SettingsError: an encoder or decoder that is not a network, a weight that is negative or not finite, an unknown
            likelihood or augmentation, or class weights of a likelihood that has no classes.

    >>> label = Modality(nn.Sequential(nn.Embedding(10, 4)), nn.Linear(2, 10), mvae.likelihoods.Categorical())
    >>> expert = label.encode(torch.tensor([3, 1, 4]))
    >>> expert.mean.shape, label.log_prob(torch.tensor([3, 1, 4]), torch.zeros(5, 3, 2)).shape
    (torch.Size([3, 2]), torch.Size([5, 3]))
    """

    @checked_arguments("encoder", "decoder", "likelihood", "augment", "view")
    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood | str | Mapping[str, Any],
        weight: float = 1.0,
        augment: Callable[..., Any] | str | Mapping[str, Any] | Sequence[Any] | None = None,
        view: Callable[..., Any] | str | Mapping[str, Any] | None = None,
        standardise: bool = True,
        class_weights: Sequence[int | float] | None = None,
    ):
        super().__init__()
        require_network(encoder, "encoder")
        require_network(decoder, "decoder")
        if not 0 <= weight < math.inf:
            raise SettingsError(f"a modality's weight must be a finite number ≥ 0, not {weight}")
        self.encoder, self.decoder, self.likelihood = encoder, decoder, named_likelihood(likelihood)
        self.weight = float(weight)
        self.encoder_takes_context, self.decoder_takes_context = takes_context(encoder), takes_context(decoder)
        self.augment = augmentation.listed(augment)
        self.view = self.likelihood.view if view is None else augmentation.named(view)
        self.scaling = Scaling() if standardise and self.likelihood.real and self.likelihood.levels == 1 else None
        self.register_buffer("class_weights", _class_weights(class_weights, self.likelihood), persistent=False)

    class_weights: Tensor | None

    def __init_subclass__(cls, **named: Any) -> None:
        """Raises SettingsError if a subclass overrides a method but not the one that everything else calls."""
        super().__init_subclass__(**named)
        for name, source in (("encode", "expert_parameters"), ("log_prob", "assess")):
            if getattr(cls, name) is not getattr(Modality, name) and getattr(cls, source) is getattr(Modality, source):
                raise SettingsError(f"{cls.__name__} overrides {name}, which comes from {source}: override {source}")

    #: The generator that ``augment`` uses; None: PyTorch's own.
    generator: torch.Generator | None = None

    #: Whether the shapes it computes with depend only on the shape of x, not on its values. (It can then be recorded.)
    fixed_shapes = True

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the networks, to which batches are cast."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    #: Whether generated means may be averaged over samples of z: they are values or class probabilities.
    has_mean = True

    #: Whether single values of a row may be missing. (A prepared column then holds NaN in their places.)
    takes_holes = False

    def prepare(
        self, x: Shaped[Tensor, "rows *event"], observed: Bool[Tensor, "rows *event"] | None = None
    ) -> Shaped[Tensor, "rows *event"]:
        """Stored values as the networks take them (levels in [0, 1], labels as int64, real values standardised).

        Raises:
            DataError: single values are missing (``observed`` is false there), which the modality does not support.
        """
        if observed is not None and not self.takes_holes:
            raise DataError(
                "single values of a row are missing, which only a modality of columns takes (mvae.Columns, in a "
                'declaration kind = "columns"): make it one, or mark whole rows as missing'
            )
        return self.likelihood.prepare(x if self.scaling is None else self.scaling.standardised(x), self.dtype)

    def fit_scaling(self, table: Table, name: str) -> None:
        """Fit likelihood and scaling to the statistics of a column's present values, unless an earlier training has."""
        self.likelihood.fit(table, name)
        if self.scaling is not None and not self.scaling.fitted:
            self.scaling.fit(table, name)

    def expert_parameters(self, x: Shaped[Tensor, "rows *event"], context: Context = None) -> tuple[Tensor, Tensor]:
        """The encoder's two outputs, ``rows latent`` each: the mean, and what the model takes as log-variance."""
        return self.run_encoder(self.shown(x), context)

    def run_encoder(self, x: Shaped[Tensor, "rows *features"], context: Context = None) -> tuple[Tensor, Tensor]:
        """The encoder's two outputs for its input, ``rows latent`` each."""
        given = () if context is None or not self.encoder_takes_context else (context,)
        output = run(self.encoder, x, *given)
        pair = output.chunk(2, dim=-1) if isinstance(output, Tensor) else output
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DataError(f"the encoder gives {_described(output)}: one tensor or two are needed: mean, log-variance")
        return pair

    def shown(self, x: Shaped[Tensor, "rows *event"]) -> Shaped[Tensor, "rows *features"]:
        """The encoder's input for prepared values: their view, augmented in training."""
        return self.encoder_input(self.augmented(x))

    def augmented(self, x: Shaped[Tensor, "rows *event"]) -> Shaped[Tensor, "rows *event"]:
        """The view of prepared values, augmented in training."""
        if self.view is not None:
            x = self.view(x)
        for part in self.augment if self.training else ():
            x = part(x, self.generator)
        return x

    def encoder_input(self, x: Shaped[Tensor, "rows *event"]) -> Shaped[Tensor, "rows *features"]:
        """Prepared and augmented values as the encoder takes them; by default unchanged."""
        return x

    def encode(self, x: Shaped[Tensor, "rows *event"], context: Context = None) -> Gaussian:
        """The expert q̃(z | x), ``rows latent`` (Eq. 4): not yet a posterior, which needs the prior expert."""
        return Gaussian.from_mean_log_var(*self.expert_parameters(x, context))

    def decode(self, z: Float[Tensor, "*lead latent"], context: Context = None) -> Tensor:
        """The decoder on every z: a flat batch ``N …`` where N is the product of the leading axes.

        The networks may be in half precision; the result is at least float32, as is z.
        """
        flat, given = self._flat(z), ()
        if context is not None and self.decoder_takes_context:
            given = (self._flat(context.expand(*z.shape[:-1], -1)),)
        params = run(self.decoder, flat, *given)
        if not isinstance(params, Tensor):
            raise DataError(
                f"the decoder gives {_described(params)}: one tensor is needed. Several parameters per value are "
                "its last axis (mvae.likelihoods.Likelihood.parameters_per_value)"
            )
        return params.to(torch.promote_types(params.dtype, torch.float32))

    def _flat(self, z: Float[Tensor, "*lead latent"]) -> Float[Tensor, "N latent"]:
        """One batch in the networks' dtype."""
        return z.reshape(-1, z.shape[-1]).to(self.dtype)

    def log_prob(
        self, x: Shaped[Tensor, "rows *event"], z: Float[Tensor, "*samples rows latent"], context: Context = None
    ) -> Float[Tensor, "*samples rows"]:
        """log p(x | z) in nats of every row under each of its samples of z; for real values, in the data's own units.

        Raises:
            DataError: the decoder's output does not fit the data.
        """
        return self.assess(x, z, context)[0]

    def assess(
        self, x: Shaped[Tensor, "rows *event"], z: Float[Tensor, "*samples rows latent"], context: Context = None
    ) -> tuple[Float[Tensor, "*samples rows"], Tensor | None]:
        """log p(x | z), and the likelihood's parameters that it comes from; None if they depend on x itself."""
        params = self.likelihood.arrange(self.decode(z, context), z.shape[:-1], x.shape[1:])
        return self.score(params, x), params

    def score(self, params: Tensor, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "*samples rows"]:
        """log p of prepared values under the likelihood's parameters, as a density in the data's own units."""
        log_prob = self.likelihood.log_prob(params, x)
        if self.scaling is None or not self.scaling.fitted:
            return log_prob
        return log_prob - self.scaling.log_volume(x.shape[1:])

    def weight_of_rows(self, x: Shaped[Tensor, "rows *event"]) -> Float[Tensor, "rows"] | None:
        """The factor on λ in each row, by its class; None: 1 in all rows. It is arbitrary where the class is missing.

        >>> rare = Modality(nn.Embedding(2, 4), nn.Linear(2, 2), "categorical", class_weights=[1, 9])
        >>> rare.weight_of_rows(torch.tensor([0, 1, 0]))
        tensor([1., 9., 1.])
        """
        if self.class_weights is None:
            return None
        return self.class_weights[x.reshape(len(x)).clamp(0, len(self.class_weights) - 1)]

    def generate(
        self,
        z: Float[Tensor, "*lead latent"],
        context: Context = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """x ~ p(x | z), or E[x | z] with ``mean=True`` (for classes, their probabilities): ``lead… event…``.

        The result is in the data's own units; pictures are on the column's own scale.
        """
        params = self.decode(z, context)
        params = params.reshape(*z.shape[:-1], *params.shape[1:])
        x = self.likelihood.mean(params) if mean else self.likelihood.sample(params, generator)
        x = self.likelihood.stored(x)
        return x if self.scaling is None else self.scaling.in_units(x, z.dim() - 1)

    def correct(
        self,
        x: Shaped[Tensor, "rows *event"],
        z: Float[Tensor, "rows latent"],
        context: Context = None,
        params: Tensor | None = None,
    ) -> dict[str, tuple[Shaped[Tensor, "rows"], Shaped[Tensor, "rows"]]]:
        """How much of each row is predicted correctly from one z, and out of how much; empty if there is no accuracy.

        For a class this is 0 or 1 of 1, for attributes the correct share. A modality may return several such pairs,
        each under a suffix of "accuracy". ``params`` are the likelihood's parameters for this z, if already known.
        """
        params = self.assess(x, z, context)[1] if params is None else params
        right = None if params is None else self.likelihood.accuracy(params, x)
        return {} if right is None else {"": (right, torch.ones_like(right))}

    @property
    def is_discrete(self) -> bool:
        """Whether x has a probability, the decoder's confidence. (Continuous values have only a density.)"""
        return self.likelihood.discrete

    def mode_with_log_prob(self, z: Float[Tensor, "rows latent"]) -> tuple[Tensor, Float[Tensor, "rows"]]:
        """The most probable x of each row, ``rows event…``, and log p(x | z), the decoder's confidence in it.

        Raises:
            TypeError: its values have no probability (see `is_discrete`).
        """
        return self.likelihood.mode_with_log_prob(self.decode(z))

    def invalid_values(
        self, x: Shaped[Tensor, "rows *event"], latent_dim: int, context_dim: int = 0
    ) -> tuple[Shaped[Tensor, "rows *event"], str]:
        """Which prepared values this modality cannot have, and what would be possible; runs the decoder on one z.

        Raises:
            DataError: the decoder's output does not fit the data.
        """
        z = torch.zeros(1, latent_dim, device=x.device, dtype=self.dtype)
        context = torch.zeros(1, context_dim, device=x.device, dtype=self.dtype) if context_dim else None
        params = self.decode(z, context)
        self.likelihood.arrange(params, torch.Size([1]), x.shape[1:])
        if self.class_weights is not None and (x[0].numel() != 1 or params.shape[-1] != len(self.class_weights)):
            raise DataError(
                f"there are {len(self.class_weights)} class weights, for one class per row; the decoder gives "
                f"{params.shape[-1]} classes, and rows have {x[0].numel()}"
            )
        return self.likelihood.invalid_values(x, params)

    @torch.no_grad()
    def check(
        self,
        x: Shaped[Tensor, "rows *event"],
        latent_dim: int,
        context_dim: int = 0,
        observed: Bool[Tensor, "rows *event"] | None = None,
    ) -> tuple[Tensor, str]:
        """Check that these rows fit this modality: reads every observed value, and runs the networks on two rows.

        Returns:
            Which rows hold an impossible value (a boolean mask ``rows``), and what would have been possible.

        Raises:
            DataError: the dtype, the shape or a network does not fit.
        """
        try:
            with evaluating(self):  # a probe must not touch running statistics
                x = self.prepare(x, observed)
                bad, possible = self.invalid_values(x, latent_dim, context_dim)
                bad = bad.reshape(len(x), -1).any(1)
                if bad.any():
                    return bad, possible
                probe = x[:2]
                context = torch.zeros(len(probe), context_dim, device=x.device, dtype=self.dtype)
                mean, raw = self.expert_parameters(probe, context if context_dim else None)
        except DataError:
            raise
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"its networks do not take rows of shape {tuple(x.shape[1:])}, dtype {x.dtype}, "
                f"and {latent_dim} latents: {reason}"
            ) from error
        if mean.shape != raw.shape or mean.shape != (len(x[:2]), latent_dim):
            raise DataError(
                f"the encoder gives shapes {tuple(mean.shape)} and {tuple(raw.shape)} for {len(x[:2])} rows; "
                f"a mean and a log-variance of {latent_dim} latents each are needed"
            )
        return bad, possible


def _class_weights(values: Sequence[int | float] | None, likelihood: Likelihood) -> Tensor | None:
    if values is None:
        return None
    weights = torch.as_tensor(values, dtype=torch.get_default_dtype())
    if not isinstance(likelihood, Categorical):
        raise SettingsError(f"class_weights need the categorical likelihood, not {type(likelihood).__name__}")
    if weights.dim() != 1 or len(weights) < 2 or not bool(((weights >= 0) & weights.isfinite()).all()):
        raise SettingsError(f"class_weights needs a finite number ≥ 0 for each class, not {values}")
    return weights


def require_network(network: object, what: str) -> None:
    """Raises SettingsError unless it is a PyTorch module whose weights have a shape."""
    if not isinstance(network, nn.Module):
        raise SettingsError(
            f"a modality's {what} must be a torch.nn.Module, not {network!r}; mvae.networks.build makes one by name"
        )
    if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
        raise SettingsError(
            f"the {what} has weights without a shape yet (torch.nn.Lazy…): call it once on a batch before it is given "
            "to a modality"
        )


def takes_context(network: nn.Module, needs: bool = True) -> bool:
    """Whether its ``forward`` has a second argument, one without a default unless ``needs`` is false."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and (not needs or p.default is p.empty) for p in parameters) > 1


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return f"shape {tuple(output.shape)}"
    return f"{type(output).__name__} of {len(output)}" if isinstance(output, tuple | list | Mapping) else repr(output)


def run(network: nn.Module, x: Tensor | Mapping[str, Tensor], *context: Tensor) -> Any:
    """Run a network on a batch. If it is a single row, batch norms normalise by their running statistics.

    A single row has no variance, so the running statistics stay unchanged. (PyTorch would raise an error, or take the
    spread over the pixels of one image for that over images.)
    """
    rows = x if isinstance(x, Tensor) else next(iter(x.values()))
    if not network.training or len(rows) != 1:
        return network(x, *context)
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    for norm in norms:
        norm.training = False
    try:
        return network(x, *context)
    finally:
        for norm in norms:
            norm.training = True
