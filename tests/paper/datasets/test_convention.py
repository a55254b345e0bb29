"""Every module of the paper's datasets is a dataset, and is loaded by the same call."""

import inspect
from importlib import import_module
from pkgutil import iter_modules

import pytest

from mvae.paper import datasets

NAMES = [module.name for module in iter_modules(datasets.__path__)]


def test_all_datasets_are_present() -> None:
    assert set(NAMES) == {
        "binary_mnist", "celeba", "celeba19", "digits", "faces", "faces19", "fashion_mnist", "mnist", "multimnist",
        "translation", "vision", "vision_faces",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_load_takes_data_dir_and_optional_arguments(name: str) -> None:
    first, *options = inspect.signature(import_module(f"mvae.paper.datasets.{name}").load).parameters.values()
    assert first.name == "data_dir"
    assert first.default is None
    assert all(option.default is not inspect.Parameter.empty for option in options)
