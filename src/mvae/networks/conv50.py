"""The image networks of MultiMNIST (App. A, Fig. 7): a DCGAN for grey images of 50×50; and JMVAE's joint encoder."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.networks.fold import FoldedTranspose2d
from mvae.networks.gru import BidirectionalGRU
from mvae.networks.joint import JointEncoder

__all__ = ["CanvasDecoder", "CanvasEncoder", "joint_encoder"]

CHANNELS = (1, 32, 64, 128, 256)
PADDINGS = (1, 1, 1, 0)  # 50 → 25 → 12 → 6 → 2
LEFT_OVER = (0, 1, 0, 0)  # half of 25 is 12 and a row left over, which the transposed convolution must give back
LAST = torch.channels_last  # which a CPU's transposed convolutions are faster on
FEATURES = CHANNELS[-1] * 2 * 2


class CanvasEncoder(nn.Module):
    """50×50 grey image → four 4×4 convolutions of stride 2 (1 → 32 → 64 → 128 → 256, no bias), 1024 → 512, heads.

    Batch norm from the second convolution. 1,316,936 parameters with 2·100 outputs (Table 1).

    >>> CanvasEncoder(2 * 100)(torch.zeros(3, 1, 50, 50)).shape
    torch.Size([3, 200])
    """

    def __init__(self, outputs: int, hidden: int = 512):
        super().__init__()
        self.trunk = _convolutions(normalised=True)
        self.head = nn.Sequential(nn.Linear(FEATURES, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(self, x: Float[Tensor, "rows 1 50 50"]) -> Float[Tensor, "rows outputs"]:
        """Mean and log-variance."""
        return self.head(self.trunk(x))


class CanvasDecoder(nn.Module):
    """The encoder backwards: latents → 512 → 1024 → transposed convolutions → 50×50 logits.

    Batch norm after all of them but the last, whose outputs are the logits.

    >>> CanvasDecoder(100)(torch.zeros(3, 100)).shape
    torch.Size([3, 1, 50, 50])
    """

    def __init__(self, latents: int, hidden: int = 512):
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(latents, hidden),
            nn.SiLU(),
            nn.Linear(hidden, FEATURES),
            nn.SiLU(),
            nn.Unflatten(1, (CHANNELS[-1], 2, 2)),
        )
        self.layers = nn.Sequential()
        for i in reversed(range(len(PADDINGS))):
            wide, narrow = CHANNELS[i + 1], CHANNELS[i]
            if i in (0, len(PADDINGS) - 1):
                convolution = FoldedTranspose2d(wide, narrow, PADDINGS[i])
            else:
                convolution = nn.ConvTranspose2d(wide, narrow, 4, 2, PADDINGS[i], LEFT_OVER[i], bias=False)
            self.layers.extend([convolution] if i == 0 else [convolution, nn.BatchNorm2d(narrow), nn.SiLU()])

    def forward(self, z: Float[Tensor, "rows latents"]) -> Float[Tensor, "rows 1 50 50"]:
        """Logits of each pixel."""
        return self.layers(self.head(z).contiguous(memory_format=LAST))


def joint_encoder(symbols: int, outputs: int, hidden: int = 512) -> JointEncoder:
    """JMVAE's q(z | image, string): image → 512, bidirectional GRU 2·256, together → 256, heads.

    The paper prints no more of it than its size: with convolutions that have no batch norm, this arrangement has
    exactly the 2,233,128 parameters that Table 1 leaves for it (4,075,064 less the unimodal encoders' 1,841,936).

    >>> x = {"image": torch.zeros(2, 1, 50, 50), "string": torch.full((2, 4), 10)}
    >>> joint_encoder(10, 2 * 100)(x).shape
    torch.Size([2, 200])
    """
    image = nn.Sequential(_convolutions(normalised=False), nn.Linear(FEATURES, hidden), nn.SiLU())
    string = BidirectionalGRU(symbols, 200, hidden // 2)
    return JointEncoder({"image": image, "string": string}, 2 * hidden, outputs, hidden // 2)


def _convolutions(normalised: bool) -> nn.Sequential:
    """50×50 → 2×2, flattened."""
    layers = nn.Sequential()
    for i, padding in enumerate(PADDINGS):
        layers.append(nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], 4, 2, padding, bias=False))
        if normalised and i > 0:
            layers.append(nn.BatchNorm2d(CHANNELS[i + 1]))
        layers.append(nn.SiLU())
    return layers.append(nn.Flatten())
