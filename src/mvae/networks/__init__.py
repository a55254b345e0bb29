"""Encoders and decoders by name, for each kind of data.

A declaration names a network, ``"conv28"``, or ``{network = "mlp", hidden = [256, 256]}`` with options; `build` creates
it for the given shapes. **To add one**, write a class with a function per role,

    class Mine:
        @staticmethod
        def encoder(inputs: Shape, outputs: int, width: int = 64) -> nn.Module: ...  # outputs: 2·latents
        @staticmethod
        def decoder(inputs: int, outputs: Shape, width: int = 64) -> nn.Module: ...  # inputs: latents

and add one line to `NETWORKS`; a declaration may also name it as ``"package.module:Mine"``. All arguments other than
inputs and outputs are options, checked by their types (bool, int, float, Sequence[int]). The argument ``condition`` is
the width of a second input that the networks of a conditional model take, 0 for none. An optional function
``features(inputs, outputs)`` builds the network that reads this modality for a joint encoder.
`mvae.testing.check_modality` checks the result.

Networks are imported when they are first used.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from mvae.arguments import checked_arguments, described, fits
from mvae.errors import SettingsError, abridged
from mvae.specs import WIDEST, check_options, split_spec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS", "Shape", "build"]

Shape = tuple[int, ...]

#: Name → a class with a function per role, or its location.
NETWORKS: dict[str, Any] = {
    "mlp": "mvae.networks.mlp:Perceptrons",
    "label": "mvae.networks.mlp:Labels",
    "conv28": "mvae.networks.conv28:Conv28",
    "conv50": "mvae.networks.conv50:Conv50",
    "conv64": "mvae.networks.conv64:Conv64",
    "strided": "mvae.networks.strided:Strided",
    "gru": "mvae.networks.gru:Strings",
    "lstm": "mvae.networks.lstm:Sentences",
    "joint": "mvae.networks.joint:Joint",
}
ROLES = ("encoder", "decoder", "features", "joint")
GIVEN = ("inputs", "outputs", "condition")


@checked_arguments("spec", "inputs", "outputs")
def build(spec: object, *, inputs: Any, outputs: Any, role: str, condition: int = 0) -> "nn.Module":
    """Build the network that a declaration describes, with fresh weights.

    Args:
        spec: a name, or a mapping with the name under ``network`` and options.
        inputs: for an encoder or features, the shape of one example (for classes, symbols or words their number, such
            as ``(10,)``); for a decoder, the number of latents; for a joint encoder, the shapes by modality.
        outputs: for encoders, twice the number of latents; for features, their number; for a decoder, the shape of one
            example's parameters (for classes, symbols or words their number, such as ``(10,)``).
        role: "encoder", "decoder", "features" (reads one modality for a joint encoder) or "joint".
        condition: the width of a condition, which the network then takes as a second input.

    Raises:
        SettingsError: an unknown network or option, a value outside its range, or a role, shape or condition that the
            network does not have.

    >>> build({"network": "mlp", "hidden": [5]}, inputs=(1, 28, 28), outputs=2 * 3, role="encoder")
    Sequential(
      (0): Flat(start_dim=1, end_dim=-1)
      (1): Linear(in_features=784, out_features=5, bias=True)
      (2): SiLU()
      (3): Linear(in_features=5, out_features=6, bias=True)
    )
    """
    if role not in ROLES:
        raise SettingsError(f"no role {role!r} of a network; there are {', '.join(ROLES)}")
    _require_sizes(role, inputs, outputs)
    name, options = split_spec(spec, [*NETWORKS, *_own(spec)], "network", "network")
    kind = NETWORKS.get(name, name)
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        try:
            kind = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(f"cannot import the network {name!r} ({error}): write module:Class") from None
    make, what = getattr(kind, role, None), f"the network {name!r}"
    if make is None:
        has = ", ".join(each for each in ROLES if hasattr(kind, each)) or "none"
        raise SettingsError(f"{what} cannot be used as {role}; it has: {has}")
    conditional = "condition" in inspect.signature(make).parameters
    if condition and not conditional:
        raise SettingsError(f"{what} takes no condition: it cannot be the {role} of a conditional model")
    check_options(make, options, what, GIVEN)
    given = {"inputs": inputs, "outputs": outputs} | ({"condition": condition} if conditional else {})
    return make(**given, **options)


def _require_sizes(role: str, inputs: object, outputs: object) -> None:
    """Raise SettingsError unless inputs and outputs fit the role: a number, a shape, or shapes by name."""
    shape_of_inputs: Any = {"decoder": int, "joint": Mapping[str, Sequence[int]]}.get(role, Sequence[int])
    needed: dict[str, tuple[object, Any]] = {
        "inputs": (inputs, shape_of_inputs),
        "outputs": (outputs, Sequence[int] if role == "decoder" else int),
    }
    for what, (value, kind) in needed.items():
        if not fits(value, kind):
            raise SettingsError(f"the {what} of a network as {role} must be {described(kind)}, not {abridged(value)}")
        sizes = [value] if kind is int else value if kind == Sequence[int] else []
        if any(not 1 <= size <= WIDEST for size in cast("Sequence[int]", sizes)):
            raise SettingsError(f"the {what} of a network as {role} must be 1 to {WIDEST:,}, not {abridged(value)}")


def _own(spec: object) -> list[str]:
    """The name of a user's own network, package.module:Class, if the spec has one."""
    name = spec.get("network") if isinstance(spec, Mapping) else spec
    return [name] if isinstance(name, str) and ":" in name else []
