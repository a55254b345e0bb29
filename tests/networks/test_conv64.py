"""CelebA's networks: shapes, published parameter counts, and a condition that affects its own row only."""

import torch
from torch import nn

from mvae.networks import build
from mvae.networks.conv64 import ImageDecoder, ImageEncoder
from mvae.networks.mlp import mlp


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_match_table_1() -> None:
    assert count(ImageEncoder(200)) == 4_070_472
    assert count(ImageEncoder(200, condition=18)) == 4_079_688
    assert count(mlp(18, 200, batch_norm=True)) == 377_032
    assert (
        count(
            build(
                {"network": "joint", "features": {"image": "conv64", "attributes": "mlp"}},
                inputs={"image": (3, 64, 64), "attributes": (18,)},
                outputs=200,
                role="joint",
            )
        )
        == 9_052_504 - 4_447_504
    )
    assert count(ImageEncoder(200)) + 18 * count(mlp(18, 200, batch_norm=True)) == 10_857_048


def test_decoders_mirror_encoders() -> None:
    """The same convolutions in reverse order; batch norm everywhere except at the image."""
    convolutions = [p.shape for p in ImageDecoder(100).parameters() if p.dim() == 4]
    assert convolutions == [p.shape for p in reversed(list(ImageEncoder(200).parameters())) if p.dim() == 4]
    for network in (ImageEncoder(200), ImageDecoder(100)):
        norms = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert sorted(norms)[-1] == (256 if isinstance(network, ImageEncoder) else 128)
        assert len(norms) == 3
    widths = [(m.in_features, m.out_features) for m in mlp(100, 18, batch_norm=True) if isinstance(m, nn.Linear)]
    assert widths == [(100, 512), (512, 512), (512, 18)]


def test_channels_last_changes_only_layout() -> None:
    """The same values as the plain layers on contiguous images; outputs are contiguous."""
    torch.manual_seed(0)
    encoder, decoder = ImageEncoder(8).double().eval(), ImageDecoder(4).double().eval()
    x, z = torch.rand(2, 3, 64, 64).double(), torch.randn(2, 4).double()
    torch.testing.assert_close(encoder(x), encoder.head(encoder.trunk(x).flatten(1)))
    image = decoder(z)
    torch.testing.assert_close(image, decoder.layers(decoder.head(z).view(2, 256, 5, 5)))
    assert image.is_contiguous()


def test_condition_changes_only_its_own_row() -> None:
    torch.manual_seed(0)
    condition = torch.zeros(3, 18)
    changed = condition.clone()
    changed[1, 4] = 1
    encoder, decoder = ImageEncoder(8, condition=18).eval(), ImageDecoder(4, condition=18).eval()
    x, z = torch.rand(3, 3, 64, 64), torch.randn(3, 4)
    for network, inputs in ((encoder, x), (decoder, z)):
        difference = (network(inputs, condition) - network(inputs, changed)).flatten(1).abs().amax(1)
        assert difference[1] > 1e-5
        assert difference[[0, 2]].max() < 1e-6
