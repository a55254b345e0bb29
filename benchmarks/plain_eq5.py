"""Equation 5 in plain PyTorch, without this library: does the image still predict its label after training?

The networks, the loss and the defaults are those of the authors' public MNIST model: two hidden layers of 512 in each
encoder, three in each decoder, a prior expert in the product, three terms with one sample of z each. After every epoch
it prints the label's accuracy given the image on the last 10,000 training examples, which are held out, and each
term's KL.

    python benchmarks/plain_eq5.py --data FOLDER                # a folder with MNIST's four files (.gz or not)
    python benchmarks/plain_eq5.py --data FOLDER --lambda2 10   # and see --help
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENTS, HIDDEN, HELD_OUT = 64, 512, 10_000


def read(folder: Path, name: str, header: int) -> np.ndarray:
    """Read the bytes of one of MNIST's files after its header."""
    path = folder / name
    data = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=header)


def layers(first: nn.Module, outputs: int, hidden: int) -> nn.Sequential:
    """A perceptron with ``hidden`` hidden layers of HIDDEN units, of which ``first`` is the first; swish in between."""
    more = [part for _ in range(hidden - 1) for part in (nn.Linear(HIDDEN, HIDDEN), nn.SiLU())]
    return nn.Sequential(first, nn.SiLU(), *more, nn.Linear(HIDDEN, outputs))


def posterior(outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of the product of the given experts and N(0, I) (Eq. 4)."""
    means, log_vars = zip(*(output.chunk(2, dim=1) for output in outputs), strict=True)
    precision, shift = torch.ones_like(means[0]), torch.zeros_like(means[0])
    for mean, log_var in zip(means, log_vars, strict=True):
        precision, shift = precision + (-log_var).exp(), shift + mean * (-log_var).exp()
    return shift / precision, 1 / precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lambda2", type=float, default=50.0, help="weight of the label (the image has 1)")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--anneal", type=int, default=8, help="epochs over which β rises from 0 to 1")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--init", choices=["torch", "xavier"], default="torch")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    image = torch.from_numpy(read(args.data, "train-images-idx3-ubyte", 16).reshape(-1, 784) / np.float32(255))
    label = torch.from_numpy(read(args.data, "train-labels-idx1-ubyte", 8).astype(np.int64))
    encoders = [layers(nn.Linear(784, HIDDEN), 2 * LATENTS, 2), layers(nn.Embedding(10, HIDDEN), 2 * LATENTS, 2)]
    decoders = [layers(nn.Linear(LATENTS, HIDDEN), 784, 3), layers(nn.Linear(LATENTS, HIDDEN), 10, 3)]
    model = nn.ModuleList([*encoders, *decoders])
    for layer in model.modules() if args.init == "xavier" else ():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.rate)
    rows = len(image) - HELD_OUT
    steps = -(-rows // args.batch)
    for epoch in range(args.epochs):
        order, kls = torch.randperm(rows), torch.zeros(3)
        for step, index in enumerate(order.split(args.batch)):
            beta = min(1.0, (epoch * steps + step + 1) / (args.anneal * steps)) if args.anneal else 1.0
            x = [image[index], label[index]]
            experts = [encoder(values) for encoder, values in zip(encoders, x, strict=True)]
            loss = torch.zeros(())
            for term, given in enumerate(([0, 1], [0], [1])):  # both, the image alone, the label alone
                mean, var = posterior([experts[i] for i in given])
                z = mean + var.sqrt() * torch.randn_like(mean)
                kl = 0.5 * (mean.square() + var - 1 - var.log()).sum(1).mean()
                kls[term] += kl.detach() / steps
                loss = loss + beta * kl
                if 0 in given:
                    loss = loss + F.binary_cross_entropy_with_logits(decoders[0](z), x[0], reduction="sum") / len(index)
                if 1 in given:
                    loss = loss + args.lambda2 * F.cross_entropy(decoders[1](z), x[1])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            mean, var = posterior([encoders[0](image[rows:])])
            sample = mean + var.sqrt() * torch.randn_like(mean)
            right = [(decoders[1](z).argmax(1) == label[rows:]).float().mean().item() for z in (mean, sample)]
        shown = "{:.1%} (sampled {:.1%}); KL both {:.1f}, image {:.1f}, label {:.1f}".format(*right, *kls.tolist())
        print(f"epoch {epoch + 1:3}: accuracy {shown}", flush=True)


if __name__ == "__main__":
    main()
