"""For tests and doctests: every shape in a signature is checked at run time; doctests find torch and mvae."""

import pytest
from jaxtyping import install_import_hook

install_import_hook("mvae", "beartype.beartype")


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    import torch

    import mvae

    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, nn=torch.nn, mvae=mvae)
