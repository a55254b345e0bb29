"""For tests and doctests: every shape in a signature is checked at run time; doctests find torch and mvae."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

_SOURCE = Path(__file__).parent / "src"
_SHAPED = [file for file in _SOURCE.rglob("*.py") if "from jaxtyping import" in file.read_text(encoding="utf-8")]
install_import_hook(
    [".".join(file.relative_to(_SOURCE).with_suffix("").parts) for file in _SHAPED], "beartype.beartype"
)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, object]) -> None:
    import torch

    import mvae

    torch.manual_seed(0)
    doctest_namespace.update(torch=torch, nn=torch.nn, mvae=mvae)
