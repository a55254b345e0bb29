"""Networks by name: valid and invalid declarations, and the networks they give."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from mvae.errors import SettingsError
from mvae.networks import NETWORKS, build
from mvae.networks.conv28 import ConvDecoder, ConvEncoder
from mvae.networks.conv50 import CanvasDecoder, CanvasEncoder
from mvae.networks.conv64 import ImageDecoder, ImageEncoder
from mvae.networks.gru import StringDecoder, StringEncoder
from mvae.networks.joint import JointEncoder
from mvae.networks.lstm import LSTMDecoder, LSTMEncoder
from mvae.networks.mlp import ConditionalMLP, LabelEncoder, LabelFeatures, mlp
from mvae.networks.mlp import ImageDecoder as ShapedDecoder

Spec = str | dict[str, Any]
EQUIVALENT: list[tuple[Spec, dict[str, Any], Any]] = [
    ("mlp", {"inputs": (1, 28, 28), "outputs": 6, "role": "encoder"}, lambda: mlp(784, 6)),
    ("mlp", {"inputs": 3, "outputs": (4,), "role": "decoder"}, lambda: mlp(3, 4)),
    ("mlp", {"inputs": 3, "outputs": (1, 2, 3), "role": "decoder"}, lambda: ShapedDecoder(3, (1, 2, 3))),
    (
        {"network": "mlp", "hidden": [7], "batch_norm": True},
        {"inputs": (5,), "outputs": 6, "role": "encoder"},
        lambda: mlp(5, 6, (7,), batch_norm=True),
    ),
    (
        {"network": "mlp", "hidden": [7, 8]},
        {"inputs": (2, 5), "outputs": 6, "role": "encoder", "condition": 10},
        lambda: ConditionalMLP(10, 10, 6, (7, 8)),
    ),
    (
        "mlp",
        {"inputs": 3, "outputs": (1, 2, 2), "role": "decoder", "condition": 10},
        lambda: ConditionalMLP(3, 10, 4),
    ),
    (
        {"network": "label", "hidden": 9},
        {"inputs": (4,), "outputs": 6, "role": "encoder"},
        lambda: LabelEncoder(4, 6, 9),
    ),
    ("conv28", {"inputs": (1, 28, 28), "outputs": 6, "role": "encoder"}, lambda: ConvEncoder(6)),
    ("conv28", {"inputs": (1, 28, 28), "outputs": 6, "role": "encoder", "condition": 4}, lambda: ConvEncoder(6, 4)),
    ("conv28", {"inputs": 3, "outputs": (1, 28, 28), "role": "decoder", "condition": 4}, lambda: ConvDecoder(3, 4)),
    ("conv50", {"inputs": (1, 50, 50), "outputs": 6, "role": "encoder"}, lambda: CanvasEncoder(6)),
    ("conv50", {"inputs": 3, "outputs": (1, 50, 50), "role": "decoder"}, lambda: CanvasDecoder(3)),
    ("conv64", {"inputs": (1, 64, 64), "outputs": 6, "role": "encoder"}, lambda: ImageEncoder(6, channels=1)),
    (
        {"network": "conv64", "hidden": 8},
        {"inputs": 3, "outputs": (3, 64, 64), "role": "decoder", "condition": 18},
        lambda: ImageDecoder(3, 18, 8),
    ),
    ("gru", {"inputs": (10,), "outputs": 6, "role": "encoder"}, lambda: StringEncoder(10, 6)),
    ("gru", {"inputs": 3, "outputs": (10,), "role": "decoder"}, lambda: StringDecoder(10, 3)),
    ("lstm", {"inputs": (30,), "outputs": 6, "role": "encoder"}, lambda: LSTMEncoder(30, 6)),
    ("lstm", {"inputs": 3, "outputs": (30,), "role": "decoder"}, lambda: LSTMDecoder(30, 3)),
    (
        {"network": "joint", "hidden": 8, "features": {"image": "mlp", "label": "label", "tags": "mlp"}},
        {"inputs": {"image": (1, 2, 2), "label": (5,), "tags": (3,)}, "outputs": 6, "role": "joint"},
        lambda: JointEncoder(
            {
                "image": nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.SiLU()),
                "label": LabelFeatures(5, 8),
                "tags": nn.Sequential(nn.Linear(3, 8), nn.SiLU()),
            },
            24,
            6,
            8,
        ),
    ),
]


@pytest.mark.parametrize(("spec", "shapes", "by_hand"), EQUIVALENT)
def test_named_network_equals_one_made_by_hand(spec: Spec, shapes: Mapping[str, Any], by_hand: Any) -> None:
    torch.manual_seed(0)
    named = build(spec, **shapes).state_dict()
    torch.manual_seed(0)
    expected = by_hand().state_dict()
    assert list(named) == list(expected)
    assert all(torch.equal(named[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("spec", "changed", "message"),
    [
        ("mpl", {}, r"no network 'mpl'; there are mlp, label, .* \(did you mean 'mlp'\?\)"),
        ({"hidden": [3]}, {}, "names no network: write a name or"),
        ({"network": "mlp", "hiden": [3]}, {}, r"no option 'hiden'; it has hidden, batch_norm \(did you mean 'hidden'"),
        (
            {"network": "mlp", "hidden": 3},
            {},
            "of the network 'mlp' must be a list of whole numbers from 1 to 10,000,000",
        ),
        ({"network": "mlp", "batch_norm": 1}, {}, "batch_norm of the network 'mlp' must be true or false"),
        (
            "label",
            {"role": "decoder", "inputs": 5, "outputs": (6,)},
            "the network 'label' cannot be used as decoder; it has: encoder, features",
        ),
        ("gru", {"condition": 3}, "the network 'gru' takes no condition"),
        ("conv28", {}, r"'conv28' is for pictures of shape \(channels, 28, 28\), not \(5,\)"),
        ("mlp", {"role": "encodr"}, "no role 'encodr'"),
        ("no.such.module:Mine", {}, "cannot import the network 'no.such.module:Mine'"),
        (
            {"network": "joint", "features": {"a": "mlp"}},
            {"role": "joint", "inputs": {"a": (1,), "b": (1,)}},
            "features.b",
        ),
        ({"network": "joint", "features": {"a": "lstm"}}, {"role": "joint", "inputs": {"a": (1,)}}, "used as features"),
    ],
)
def test_invalid_network_is_refused(spec: Spec, changed: dict[str, Any], message: str) -> None:
    shapes: dict[str, Any] = {"inputs": (5,), "outputs": 6, "role": "encoder"}
    with pytest.raises(SettingsError, match=message):
        build(spec, **shapes | changed)


class Mine:
    """A user's own network."""

    @staticmethod
    def encoder(inputs: tuple[int, ...], outputs: int, scale: float = 1.0) -> nn.Module:
        layer = nn.Linear(inputs[0], outputs)
        nn.init.constant_(layer.weight, scale)
        return layer


def test_own_network_is_built_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "mine", Mine)
    monkeypatch.setitem(sys.modules, "users_own", sys.modules[__name__])
    for name in ("mine", "users_own:Mine"):
        built = build({"network": name, "scale": 2}, inputs=(5,), outputs=6, role="encoder")
        assert built(torch.ones(3, 5)).shape == (3, 6)
        assert (built.get_parameter("weight") == 2).all()


def test_joint_encoder_accepts_any_modality_names() -> None:
    shapes = dict.fromkeys(("type", "RNA.counts", "keys", "training", "x"), (2,))
    spec = {"network": "joint", "hidden": 4, "features": dict.fromkeys(shapes, "mlp")}
    encoder = build(spec, inputs=shapes, outputs=6, role="joint")
    x = {name: torch.randn(3, 2) for name in shapes}
    before = encoder(x)
    for name in shapes:
        assert not torch.equal(encoder(x | {name: x[name] + 1}), before)
    other = build(spec, inputs=shapes, outputs=6, role="joint")
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(x), before)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_mlp_keeps_shape_of_single_numbers(batch_norm: bool) -> None:
    spec = {"network": "mlp", "hidden": [4], "batch_norm": batch_norm}
    encoder = build(spec, inputs=(), outputs=6, role="encoder")
    x = torch.randn(5)
    assert torch.equal(encoder.eval()(x), encoder(x[:, None]))
    assert encoder(x[:0]).shape == (0, 6)
    assert build(spec, inputs=3, outputs=(), role="decoder")(torch.zeros(5, 3)).shape == (5,)
    assert build(spec, inputs=(), outputs=6, role="encoder", condition=2)(x, torch.zeros(5, 2)).shape == (5, 6)


def test_importing_networks_does_not_import_torch() -> None:
    code = "import sys, mvae.networks; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
