"""multivae 1.0.3 as an optional peer: imported without its unused dependencies, and built with the same networks.

pip install --no-deps multivae==1.0.3 pythae
pip install pydantic tqdm imageio
"""

import copy
import importlib
import logging
import sys
import tempfile
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import torch
from torch import Tensor, nn

import mvae
from mvae.models.base import MultimodalVAE
from mvae.networks.convolution import ChannelsLast, PictureDecoder
from mvae.networks.fold import FoldedTranspose2d
from mvae.networks.mlp import LabelEncoder

# multivae imports these for datasets, images and text that are not timed here. torchvision's compiled operators do not
# work with many CPU builds of torch, so all three are replaced by empty stand-ins while multivae is imported.
UNUSED = ("torchvision", "nltk", "pandas")


class _StandIn:
    """An import finder whose modules return an empty class for every attribute; none of them is ever called."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None  # pyright: ignore

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)

        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = attribute  # pyright: ignore[reportAttributeAccessIssue]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def load() -> Any | None:
    """Import multivae with its models and trainers; if it is not installed, print that and return None."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in UNUSED}
    sys.meta_path.insert(0, _StandIn())  # pyright: ignore[reportArgumentType]
    try:
        multivae = importlib.import_module("multivae")
        for part in ("multivae.models", "multivae.trainers", "multivae.data"):
            importlib.import_module(part)
    except ImportError as error:
        print(f"multivae is not here ({error}): only ours is timed")
        return None
    finally:
        sys.meta_path.pop(0)
        for name in [name for name in sys.modules if name.split(".")[0] in UNUSED]:
            del sys.modules[name]
        sys.modules.update(before)
    for name in ("multivae.models.base.base_model", "multivae.trainers.base.base_trainer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return multivae


class Peer:
    """multivae's MVAE with our networks, likelihoods and weights λ, on the rows of a table.

    ``plain``: the same networks written in the usual way, without what makes ours faster on a CPU.
    """

    def __init__(self, multivae: Any, model: MultimodalVAE, table: mvae.Table, plain: bool = False):
        self.multivae = multivae
        written = as_one_would_write if plain else copy.deepcopy
        # Its Bernoulli rejects grey levels unless torch's argument validation is off, which is also faster.
        torch.distributions.Distribution.set_default_validate_args(False)
        columns = model.prepare(table)
        families, modalities = {}, model.modalities
        for name, modality in modalities.items():
            families[name] = "bernoulli"
            if isinstance(modality.likelihood, mvae.likelihoods.Categorical):
                families[name] = "categorical"  # multivae's needs one-hot classes
                columns[name] = nn.functional.one_hot(columns[name], int(columns[name].max()) + 1).float()
        self.data = multivae.data.datasets.base.MultimodalBaseDataset(columns)
        config = multivae.models.MVAEConfig(
            n_modalities=len(columns),
            latent_dim=model.latent_dim,
            input_dims={name: tuple(column.shape[1:]) for name, column in columns.items()},
            uses_likelihood_rescaling=True,
            rescale_factors={name: modality.weight for name, modality in modalities.items()},
            decoders_dist=families,
            warmup=1,
            k=1,  # no effect with two modalities
        )
        self.model = multivae.models.MVAE(
            config,
            encoders={n: encoder(modalities[n], written(modalities[n].encoder), model.latent_dim) for n in columns},
            decoders={n: decoder(written(modalities[n].decoder), model.latent_dim) for n in columns},
        )

    def bare_step(self, batch_size: int, learning_rate: float = 1e-3) -> Callable[[], None]:
        """Forward, backward and Adam on one prepared batch."""
        batch = type(self.data)({name: column[:batch_size] for name, column in self.data.data.items()})
        optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate)

        def step() -> None:
            optimizer.zero_grad()
            self.model(batch, epoch=2).loss.backward()
            optimizer.step()

        return step

    def trainer_epoch(self, batch_size: int, learning_rate: float = 1e-3) -> Callable[[], None]:
        """One epoch of its trainer: data loader, shuffling and running metrics, but no evaluation."""
        self.folder = tempfile.TemporaryDirectory()  # kept until the benchmark ends
        config = self.multivae.trainers.BaseTrainerConfig(
            output_dir=self.folder.name,
            per_device_train_batch_size=batch_size,
            num_epochs=1,
            learning_rate=learning_rate,
            no_cuda=True,
        )
        trainer = self.multivae.trainers.BaseTrainer(self.model, train_dataset=self.data, training_config=config)
        trainer.callback_handler.callbacks.clear()
        return lambda: trainer.train_step(2)

    def joint_log_likelihood(self, rows: int, samples: int = 1000) -> Callable[[], None]:
        """Its estimator of log p(image, label); multivae has no estimator of log p(image) alone."""
        batch = type(self.data)({name: column[:rows] for name, column in self.data.data.items()})
        return lambda: self.model.compute_joint_nll(batch, K=samples, batch_size_K=100)


def as_one_would_write(network: nn.Module) -> nn.Module:
    """A copy in PyTorch's default layout with PyTorch's own transposed convolutions, and labels encoded row by row."""
    network = copy.deepcopy(network)
    if isinstance(network, LabelEncoder):
        return nn.Sequential(network.embedding, network.layers)
    if isinstance(network, PictureDecoder):
        network = nn.Sequential(network.head, network.layers)
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, FoldedTranspose2d):
                setattr(part, name, child.plain)
            elif isinstance(child, ChannelsLast):
                setattr(part, name, nn.Identity())
    return network


def encoder(modality: mvae.Modality, network: nn.Module, latents: int) -> nn.Module:
    """A network that returns mean and log-variance, in multivae's encoder interface."""
    from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
    from pythae.models.nn import BaseEncoder  # pyright: ignore[reportMissingImports]

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.latent_dim = latents
            self.network = network
            self.one_hot = isinstance(modality.likelihood, mvae.likelihoods.Categorical)

        def forward(self, x: Tensor) -> Any:
            mean, log_var = self.network(x.argmax(-1) if self.one_hot else x).chunk(2, dim=-1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    return Encoder()


def decoder(network: nn.Module, latents: int) -> nn.Module:
    """A network of latents, in multivae's decoder interface."""
    from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
    from pythae.models.nn import BaseDecoder  # pyright: ignore[reportMissingImports]

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.latent_dim = latents
            self.network = network

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    return Decoder()
