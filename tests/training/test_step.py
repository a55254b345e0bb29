"""A compiled step matches an eager one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mvae.data.table import Table
from mvae.modality.columns import Columns
from mvae.models.mmvae import MMVAE
from mvae.training import step as steps
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step, can_be_recorded, way_of
from tests.built import built


def table(rows: int = 25, side: int = 8) -> Table:
    generator = torch.Generator().manual_seed(0)
    return Table(
        {
            "image": torch.rand(rows, 1, side, side, generator=generator),
            "label": torch.randint(0, 10, (rows,), generator=generator),
        }
    )


def trained(
    count: int, name: str = "mvae", dataset: str = "digits", side: int = 8, rows: int = 10
) -> tuple[Step, dict[str, float]]:
    """Train three times on two and a half batches of ``rows`` rows."""
    torch.manual_seed(0)
    if name == "mmvae of columns":  # in float64, because Adam amplifies rounding errors where a gradient is nearly 0
        model = (
            MMVAE({"labs": Columns.of(["hb", "crp", "age"], latent_dim=4, augment=[])}, 4, samples=3).double().train()
        )
        data = Table({"labs": torch.linspace(-9, 9, 15 * rows // 2).sin().reshape(-1, 3).double()})
    else:
        model, data = built(dataset, model=name.split()[0]).train(), table(5 * rows // 2, side)
    step = Step(model, data, TrainingSettings(batch_size=rows, precision="bfloat16" if "bf" in name else "float32"))
    step.plan(count)
    for beta in (0.0, 0.3, 1.0):
        for index in torch.arange(5 * rows // 2).split(rows):
            step(index, beta, 1e-3)
    return step, step.means()


COMPARE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_step import steps, trained
torch.set_num_threads(2)
name = sys.argv[2]
(eager, means), (compiled, same) = trained(0, name), trained(steps.COMPILED_STEPS, name)
assert (eager.way, compiled.way) == ("eager", "compiled")
assert means.keys() == same.keys()
if "bf" in name:  # closer to eager bfloat16 than to float32
    full = trained(0, "mvae")[0]
    apart, others = (
        sum(float((one - other).square().sum()) for one, other in zip(compiled.model.parameters(), m.parameters()))
        for m in (eager.model, full.model)
    )
    assert 0 < 2 * apart < others, (apart, others)
    sys.exit()
for part, value in means.items():
    assert abs(same[part] - value) <= 1e-4 * abs(value), part
for one, other in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
assert torch.equal(eager.generator.get_state(), compiled.generator.get_state())
if name == "mvae":
    torch._dynamo.config.recompile_limit = 1  # however many models a process trains, each is compiled
    large = "mnist", 28, 100  # large enough for threads to share the work
    compiled, again = (trained(steps.COMPILED_STEPS, name, *large)[0] for _ in range(2))
    assert (compiled.way, again.way) == ("compiled", "compiled")
    assert all(torch.equal(one, other) for one, other in zip(compiled.model.parameters(), again.model.parameters()))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("model", ["mvae", "mvae in bfloat16", "cvae", "jmvae", "mmvae of columns"])
def test_compiled_step_matches_an_eager_one(model: str) -> None:
    """In a separate process, because the run-time checks of shapes in tests cannot be compiled."""
    command = [sys.executable, "-c", COMPARE, str(Path(__file__).parent), model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_step_is_eager_and_logs_why_if_compiling_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("no compiler here")

    (_, means) = trained(0)
    monkeypatch.setattr(torch, "compile", broken)
    caplog.set_level("INFO", "mvae")
    step, same = trained(steps.COMPILED_STEPS)
    assert step.way == "eager"
    assert same == means
    assert "the training step is not compiled: no compiler here" in caplog.text


def test_only_long_runs_of_complete_rows_are_compiled() -> None:
    model = built("digits")
    some = Table(dict(table().columns), present={"label": torch.arange(25) > 3})
    ten, long = TrainingSettings(batch_size=10), steps.COMPILED_STEPS
    assert way_of(model, table(), ten, long) == "compiled"
    assert way_of(model, some, ten, long) == "eager"
    assert way_of(model, table(), ten, long - 1) == "eager"
    assert way_of(model, table(), TrainingSettings(batch_size=26), long) == "eager"  # no batch is ever full
    assert way_of(model, table(), TrainingSettings(batch_size=10, precision="bfloat16"), long) == "compiled"


@pytest.mark.parametrize(
    ("dataset", "complete", "recorded"),
    [
        ("digits", False, True),
        ("fashion-mnist", False, True),
        ("multimnist", True, True),
        ("multimnist", False, False),  # its batch norms need exact rows
        ("celeba19", True, False),  # random subsets
        ("translation", True, False),  # sentences of any length
    ],
)
def test_gpu_records_steps_of_constant_shape(dataset: str, complete: bool, recorded: bool) -> None:
    assert can_be_recorded(built(dataset), complete) == recorded
