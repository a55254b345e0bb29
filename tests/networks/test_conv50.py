"""The networks of MultiMNIST: published parameter counts, and the positions of batch norm."""

import torch
from torch import nn

from mvae.networks import build
from mvae.networks.conv50 import CanvasDecoder, CanvasEncoder
from mvae.networks.fold import FoldedTranspose2d


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def joint(outputs: int) -> nn.Module:
    return build(
        {"network": "joint", "together": 256, "features": {"image": "conv50", "string": "gru"}},
        inputs={"image": (1, 50, 50), "string": (10,)},
        outputs=outputs,
        role="joint",
    )


def test_parameter_counts_match_table_1() -> None:
    assert count(CanvasEncoder(2 * 100)) == 1_316_936
    assert count(joint(2 * 100)) == 4_075_064 - 1_841_936


def test_decoder_mirrors_encoder() -> None:
    weights = [p.shape for p in CanvasDecoder(100).parameters() if p.dim() == 4]
    assert weights == [p.shape for p in reversed(list(CanvasEncoder(200).parameters())) if p.dim() == 4]


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


def test_joint_encoder_reads_both_inputs_row_by_row() -> None:
    torch.manual_seed(0)
    network = joint(8)
    x = {"image": torch.rand(3, 1, 50, 50), "string": torch.tensor([[1, 2, 3, 4], [5, 10, 10, 10], [10, 10, 10, 10]])}
    before = network(x)
    for name, row, value in (("image", 0, torch.zeros(1, 50, 50)), ("string", 1, torch.tensor([6, 10, 10, 10]))):
        changed = {key: column.clone() for key, column in x.items()}
        changed[name][row] = value
        difference = (network(changed) - before).abs().amax(1)
        assert difference[row] > 1e-5
        assert difference[[i for i in range(3) if i != row]].max() < 1e-6
