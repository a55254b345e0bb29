"""How far do 50 labels of MNIST go? A classifier in plain PyTorch whose predictions are to be consistent.

It has the networks of the joint model's path from image to label (784–512–512–64 and 64–512–512–10), with batch norm.
Besides the cross-entropy of the labelled rows its loss has, of all images x, translated at random by a few pixels,

- KL[p(y | x) ‖ p(y | x' + r)]: x' is x translated anew, and r of a given length changes the prediction most
  (virtual adversarial training, Miyato et al. 2018);
- the entropy of each p(y | x), times 0.3, and the cross-entropy from equal frequencies to the mean prediction
  (Hu et al. 2017: predictions are sure, and as varied as classes are).

Every run prints its accuracy on the last 10,000 training examples, of which it sees neither image nor label.

    python benchmarks/few_labels.py --data FOLDER            # a folder with MNIST's four files (.gz or not)
    python benchmarks/few_labels.py --data FOLDER --seed 1   # other labels; and see --help
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from plain_eq5 import HELD_OUT, read
from torch import Tensor, nn
from torch.nn import functional as F

WIDE, LATENTS, CLASSES = 512, 64, 10
SURE, STEP, PROBE = 0.3, 0.02, 0.1  # weight of the entropy; of the running mean; length of the step that finds r


def layers(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    """Two hidden layers."""
    parts: list[nn.Module] = []
    for before in (inputs, WIDE):
        parts += [nn.Linear(before, WIDE), *([nn.BatchNorm1d(WIDE)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(WIDE, outputs))


def translated(x: Tensor, pixels: int) -> Tensor:
    """Every image by up to so many pixels in each direction, each by itself."""
    rows, side = torch.arange(len(x))[:, None, None], torch.arange(28)
    down, right = torch.randint(0, 2 * pixels + 1, (2, len(x), 1))
    wide = F.pad(x.view(-1, 28, 28), (pixels,) * 4)
    return wide[rows, (down + side)[:, :, None], (right + side)[:, None, :]].flatten(1)


def worst(network: nn.Module, x: Tensor, p: Tensor, length: float) -> Tensor:
    """The r that changes the prediction most, by one step of the power method."""
    probe = (PROBE * F.normalize(torch.randn_like(x), dim=1)).requires_grad_()
    apart = F.kl_div(network(x + probe).log_softmax(1), p, reduction="batchmean")
    return length * F.normalize(torch.autograd.grad(apart, probe)[0], dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of which rows have a label, and of everything else")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--pixels", type=int, default=1)
    parser.add_argument("--length", type=float, default=2.0, help="of r")
    parser.add_argument("--ramp", type=float, default=0.1, help="share of the steps over which sure and varied rise")
    parser.add_argument("--plain", action="store_true", help="no batch norm")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    image = torch.from_numpy(read(args.data, "train-images-idx3-ubyte", 16).reshape(-1, 784) / np.float32(255))
    label = torch.from_numpy(read(args.data, "train-labels-idx1-ubyte", 8).astype(np.int64))
    rows = len(image) - HELD_OUT
    known = torch.randperm(rows, generator=torch.Generator().manual_seed(1000 + args.seed))[: args.labels]
    print("labels of each class:", torch.bincount(label[known], minlength=CLASSES).tolist())
    network = nn.Sequential(layers(784, LATENTS, not args.plain), layers(LATENTS, CLASSES, not args.plain))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    frequency, step, steps = torch.full((CLASSES,), 1 / CLASSES), 0, args.epochs * -(-rows // args.batch)
    for epoch in range(args.epochs):
        network.train()
        for index in torch.randperm(rows).split(args.batch):
            optimiser.param_groups[0]["lr"] = 1e-3 * min(1, 2 * (1 - step / steps))  # falls over the second half
            step += 1
            some = known[torch.randint(0, len(known), (50,))]
            log_p = network(translated(image[index], args.pixels)).log_softmax(1)
            p, again = log_p.exp(), translated(image[index], args.pixels)
            moved = again + worst(network, again, p.detach(), args.length)
            both = network(torch.cat([moved, translated(image[some], args.pixels)]))
            consistent = F.kl_div(both[: len(index)].log_softmax(1), p.detach(), reduction="batchmean")
            frequency = (1 - STEP) * frequency + STEP * p.detach().mean(0)
            mean = frequency + p.mean(0) - p.detach().mean(0)  # the gradient is this batch's
            varied = -mean.clamp(min=1e-6).log().mean()
            loss = F.cross_entropy(both[len(index) :], label[some]) + min(1, 10 * step / steps) * consistent
            loss = loss + min(1, step / (args.ramp * steps)) * (SURE * -(p * log_p).sum(1).mean() + varied)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            right = (network.eval()(image[rows:]).argmax(1) == label[rows:]).float().mean().item()
        print(f"epoch {epoch + 1:3}: accuracy {right:.1%}", flush=True)


if __name__ == "__main__":
    main()
