"""The folded transposed convolution compared with PyTorch's."""

import pytest
import torch
from torch import nn

from mvae.networks.fold import FoldedTranspose2d


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("rows", "channels", "outputs", "padding", "sides"), [(3, 8, 1, 1, (7, 5)), (2, 5, 3, 0, (2, 2))]
)
def test_fold_matches_pytorch_values_and_gradients(
    rows: int, channels: int, outputs: int, padding: int, sides: tuple[int, int], last: bool
) -> None:
    folded = FoldedTranspose2d(channels, outputs, padding).double()
    plain = nn.ConvTranspose2d(channels, outputs, 4, 2, padding, bias=False).double()
    plain.load_state_dict(folded.plain.state_dict())
    x = torch.randn(rows, channels, *sides, dtype=torch.float64)
    found = []
    for layer, weight in ((folded, folded.plain.weight), (plain, plain.weight)):
        own = x.clone().contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        own.requires_grad_()
        y = layer(own)
        (y.sin() * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
        found.append((y, own.grad, weight.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
