"""The network "strided": the benchmark's shapes, pictures of any size, gradients everywhere."""

import pytest
import torch
from torch import nn

from mvae.errors import SettingsError
from mvae.networks import build


def made(role: str, shape: tuple[int, ...], **options) -> nn.Module:
    spec = {"network": "strided", **options}
    if role == "decoder":
        return build(spec, inputs=7, outputs=shape, role=role)
    return build(spec, inputs=shape, outputs=14, role=role)


def test_encoder_matches_benchmark() -> None:
    """3 → 32 → 64 → 128 to 4×4 = 2048 features, and back."""
    encoder = made("encoder", (3, 28, 28))
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (14, 2048)
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 9, 14), (2, 5, 5)])
@pytest.mark.parametrize("widths", [[4], [4, 6, 5]])
def test_pictures_of_any_size_keep_their_shape(shape: tuple[int, ...], widths: list[int]) -> None:
    encoder, decoder = made("encoder", shape, widths=widths), made("decoder", shape, widths=widths)
    features = made("features", shape, widths=widths)
    x = torch.rand(3, *shape)
    heads, picture = encoder(x), decoder(torch.randn(3, 7))
    assert heads.shape == features(x).shape == (3, 14)
    assert picture.shape == x.shape
    (heads.square().sum() + picture.square().sum()).backward()
    for network in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_invalid_shape_or_widths_are_refused() -> None:
    with pytest.raises(SettingsError, match="for pictures of shape"):
        made("encoder", (784,))
    with pytest.raises(SettingsError, match="at least one width"):
        made("decoder", (3, 28, 28), widths=[])
