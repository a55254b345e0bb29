"""Convolutional networks of three sizes: published parameter counts, mirrored decoders, conditions row by row."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mvae.networks import build
from mvae.networks.conv28 import ConvDecoder, ConvEncoder
from mvae.networks.conv50 import CanvasDecoder, CanvasEncoder
from mvae.networks.conv64 import ImageDecoder, ImageEncoder
from mvae.networks.fold import FoldedTranspose2d
from mvae.networks.mlp import mlp


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def joint(outputs: int, image: str, shape: tuple[int, ...], second: dict[str, tuple[str, int]], **more: int):
    """The joint encoder of an image and a second modality, name → (network, size)."""
    features = {"image": image} | {name: network for name, (network, _) in second.items()}
    inputs = {"image": shape} | {name: (size,) for name, (_, size) in second.items()}
    return build({"network": "joint", "features": features, **more}, inputs=inputs, outputs=outputs, role="joint")


def joint_of_strings(outputs: int) -> nn.Module:
    return joint(outputs, "conv50", (1, 50, 50), {"string": ("gru", 10)}, together=256)


def test_parameter_counts_match_table_1() -> None:
    assert count(ConvEncoder(2 * 64)) == 3_409_536
    assert count(ConvEncoder(2 * 64, condition=10)) == 3_414_656
    assert count(joint(2 * 64, "conv28", (1, 28, 28), {"label": ("label", 10)})) == 7_682_432 - 3_742_976
    assert count(CanvasEncoder(2 * 100)) == 1_316_936
    assert count(joint_of_strings(2 * 100)) == 4_075_064 - 1_841_936
    assert count(ImageEncoder(200)) == 4_070_472
    assert count(ImageEncoder(200, condition=18)) == 4_079_688
    assert count(mlp(18, 200, batch_norm=True)) == 377_032
    assert count(joint(200, "conv64", (3, 64, 64), {"attributes": ("mlp", 18)})) == 9_052_504 - 4_447_504
    assert count(ImageEncoder(200)) + 18 * count(mlp(18, 200, batch_norm=True)) == 10_857_048


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (ConvEncoder(128), ConvDecoder(64)),
        (CanvasEncoder(200), CanvasDecoder(100)),
        (ImageEncoder(200), ImageDecoder(100)),
    ],
)
def test_decoder_mirrors_encoder(encoder: nn.Module, decoder: nn.Module) -> None:
    """The same convolutions in reverse order."""
    weights = [p.shape for p in decoder.parameters() if p.dim() == 4]
    assert weights == [p.shape for p in reversed(list(encoder.parameters())) if p.dim() == 4]


@pytest.mark.parametrize(
    ("encoder", "decoder", "shape", "classes"),
    [(ConvEncoder, ConvDecoder, (1, 28, 28), 10), (ImageEncoder, ImageDecoder, (3, 64, 64), 18)],
)
def test_condition_changes_only_its_own_row(
    encoder: Callable, decoder: Callable, shape: tuple[int, ...], classes: int
) -> None:
    torch.manual_seed(0)
    condition = torch.zeros(3, classes)
    changed = condition.clone()
    changed[1, 4] = 1
    x, z = torch.rand(3, *shape), torch.randn(3, 4)
    for network, inputs in ((encoder(8, condition=classes), x), (decoder(4, condition=classes), z)):
        network.eval()
        difference = (network(inputs, condition) - network(inputs, changed)).flatten(1).abs().amax(1)
        assert difference[1] > 1e-5
        assert difference[[0, 2]].max() < 1e-6


def test_decoder_sizes_mirror_encoder_sizes() -> None:
    """50 → 25 → 12 → 6 → 2 and back."""
    smaller, larger = [], []
    encoder, decoder = CanvasEncoder(200), CanvasDecoder(100)
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: smaller.append(out.shape[-1]))
        elif isinstance(module, nn.ConvTranspose2d | FoldedTranspose2d):
            module.register_forward_hook(lambda _, __, out: larger.append(out.shape[-1]))
    encoder(torch.rand(2, 1, 50, 50))
    decoder(torch.randn(2, 100))
    assert (smaller, larger) == ([25, 12, 6, 2], [6, 12, 25, 50])


def test_batch_norm_follows_all_convolutions_but_the_image_one() -> None:
    kinds = [type(layer).__name__ for layer in CanvasEncoder(200).trunk.children()]
    assert kinds == ["Conv2d", "SiLU", *["Conv2d", "BatchNorm2d", "SiLU"] * 3, "Flatten"]
    kinds = [type(layer).__name__.replace("Folded", "Conv") for layer in CanvasDecoder(100).layers]
    assert kinds == [*["ConvTranspose2d", "BatchNorm2d", "SiLU"] * 3, "ConvTranspose2d"]
    for network, widest in ((ImageEncoder(200), 256), (ImageDecoder(100), 128)):
        norms = [module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert (len(norms), max(norms)) == (3, widest)


def test_attributes_have_two_hidden_layers() -> None:
    widths = [(m.in_features, m.out_features) for m in mlp(100, 18, batch_norm=True) if isinstance(m, nn.Linear)]
    assert widths == [(100, 512), (512, 512), (512, 18)]


def test_joint_encoder_reads_both_inputs_row_by_row() -> None:
    torch.manual_seed(0)
    network = joint_of_strings(8)
    x = {"image": torch.rand(3, 1, 50, 50), "string": torch.tensor([[1, 2, 3, 4], [5, 10, 10, 10], [10, 10, 10, 10]])}
    before = network(x)
    for name, row, value in (("image", 0, torch.zeros(1, 50, 50)), ("string", 1, torch.tensor([6, 10, 10, 10]))):
        changed = {key: column.clone() for key, column in x.items()}
        changed[name][row] = value
        difference = (network(changed) - before).abs().amax(1)
        assert difference[row] > 1e-5
        assert difference[[i for i in range(3) if i != row]].max() < 1e-6


def test_channels_last_changes_only_layout() -> None:
    """The same values as the plain layers on contiguous images; outputs are contiguous."""
    torch.manual_seed(0)
    encoder, decoder = ImageEncoder(8).double().eval(), ImageDecoder(4).double().eval()
    x, z = torch.rand(2, 3, 64, 64).double(), torch.randn(2, 4).double()
    torch.testing.assert_close(encoder(x), encoder.head(encoder.trunk(x).flatten(1)))
    image = decoder(z)
    torch.testing.assert_close(image, decoder.layers(decoder.head(z).view(2, 256, 5, 5)))
    assert image.is_contiguous()
