"""Convolutional networks: shapes, published parameter counts, and a condition that affects its own row only."""

import torch
from torch import nn

from mvae.networks import build
from mvae.networks.conv28 import ConvDecoder, ConvEncoder


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_match_table_1() -> None:
    assert count(ConvEncoder(2 * 64)) == 3_409_536
    assert count(ConvEncoder(2 * 64, condition=10)) == 3_414_656
    assert (
        count(
            build(
                {"network": "joint", "features": {"image": "conv28", "label": "label"}},
                inputs={"image": (1, 28, 28), "label": (10,)},
                outputs=2 * 64,
                role="joint",
            )
        )
        == 7_682_432 - 3_742_976
    )


def test_decoder_mirrors_encoder() -> None:
    """The same convolutions in reverse order."""
    weights = [p.shape for p in ConvDecoder(64).parameters() if p.dim() == 4]
    assert weights == [p.shape for p in reversed(list(ConvEncoder(128).parameters())) if p.dim() == 4]


def test_condition_changes_only_its_own_row() -> None:
    torch.manual_seed(0)
    condition = torch.zeros(3, 10)
    changed = condition.clone()
    changed[1, 4] = 1
    encoder, decoder = ConvEncoder(8, condition=10), ConvDecoder(4, condition=10)
    x, z = torch.rand(3, 1, 28, 28), torch.randn(3, 4)
    for network, inputs in ((encoder, x), (decoder, z)):
        difference = (network(inputs, condition) - network(inputs, changed)).flatten(1).abs().amax(1)
        assert difference[1] > 1e-4
        assert difference[[0, 2]].max() < 1e-6
