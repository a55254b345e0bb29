"""Perceptrons and the label encoder: shapes, and the shortcut for labels compared with direct computation."""

import pytest
import torch
from torch import Tensor, nn

from mvae.networks.mlp import ConditionalMLP, ImageDecoder, LabelEncoder, mlp


def test_mlp_is_linear_layers_with_swish() -> None:
    network, x = mlp(6, 3, [5, 4]), torch.randn(7, 6)
    first, second, last = (layer for layer in network if isinstance(layer, nn.Linear))
    hidden = first(x)
    hidden = second(hidden * hidden.sigmoid())
    torch.testing.assert_close(network(x), last(hidden * hidden.sigmoid()))
    assert [layer.out_features for layer in (first, second, last)] == [5, 4, 3]


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_mlp_flattens_any_event(shape: tuple[int, ...]) -> None:
    network, x = mlp(6, 3, [5]), torch.randn(7, 6)
    assert torch.equal(network(x.reshape(7, *shape)), network(x))


def test_mlp_without_hidden_layers_is_linear() -> None:
    network = mlp(2, 3, [])
    assert sum(p.numel() for p in network.parameters()) == 2 * 3 + 3


def test_image_decoder_reshapes_mlp_output() -> None:
    decoder, z = ImageDecoder(4, (1, 2, 3), [5]), torch.randn(7, 4)
    assert decoder(z).shape == (7, 1, 2, 3)
    assert torch.equal(decoder(z).flatten(1), nn.Sequential(*list(decoder)[:-1])(z))


def direct(encoder: LabelEncoder, label: Tensor) -> Tensor:
    """Each row through the layers by itself."""
    return torch.cat([encoder.layers(encoder.embedding.weight[int(k)][None]) for k in label])


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 200])
def test_label_encoder_matches_direct_computation(rows: int) -> None:
    encoder = LabelEncoder(10, 6, hidden=8).double()
    label, weight = torch.randint(0, 10, (rows,)), torch.randn(rows, 6).double()
    parameters = list(encoder.parameters())
    torch.testing.assert_close(encoder(label), direct(encoder, label))
    found = torch.autograd.grad((weight * encoder(label)).sum(), parameters)
    expected = torch.autograd.grad((weight * direct(encoder, label)).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_parameter_counts_match_table_1() -> None:
    assert sum(p.numel() for p in mlp(784, 2 * 64).parameters()) == 730_240
    assert sum(p.numel() for p in LabelEncoder(10, 2 * 64).parameters()) == 333_440
    assert sum(p.numel() for p in ConditionalMLP(784, 10, 2 * 64).parameters()) == 735_360
