"""Networks that cannot be exported as graphs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvae.errors import QueryError
from mvae.export.graphs import write_graph

pytest.importorskip("onnxscript")


@pytest.mark.parametrize(("file", "what"), [("decoder-0.onnx", "as ONNX"), ("decoder-0.pt2", "by torch.export")])
def test_a_network_that_cannot_be_exported_is_named(file: str, what: str, tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z if z.sum() > 0 else -z

    with pytest.raises(QueryError, match=f"{file} cannot be written {what}: .+"):
        write_graph(Branching(), {"z": torch.zeros(3, 2)}, ["mean"], tmp_path / file)
