"""Attacks that once succeeded, by kind; each must be refused, or do no harm."""

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mvae
from mvae.data.picture import open_bounded
from mvae.data.schema import ColumnSchema
from mvae.errors import MvaeError
from mvae.evaluation.coupling_warnings import coupling_warning
from mvae.files import locked, save_state, write_whole
from tests.hostile.api import B, X, Y, data, model


def refused(call: Callable[[], Any]) -> None:
    try:
        call()
    except MvaeError:
        return
    raise AssertionError("accepted")


def training_works_under_no_grad() -> None:
    built = model()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    with torch.no_grad():
        mvae.fit(built, data(), epochs=1, callbacks=[])
    assert any(not torch.equal(value, before[name]) for name, value in built.state_dict().items())


def inference_mode_is_refused() -> None:
    with torch.inference_mode():
        refused(lambda: mvae.fit(model(), data(), epochs=1, callbacks=[]))


def tables_are_checked_like_mappings() -> None:
    for column in ({"x": X * math.nan}, {"b": B + 5}, {"y": Y + 11}, {"y": Y - 4}, {"x": torch.zeros(6, 4)}):
        _refused_by_every_query(mvae.Table(column))


def _refused_by_every_query(table: mvae.Table) -> None:
    refused(lambda: model().posterior(table))
    refused(lambda: model().generate(table))
    refused(lambda: model().predict(table, "x"))
    refused(lambda: model()(table))
    refused(lambda: mvae.log_likelihood(model(), table, list(table.names), samples=30))
    refused(lambda: mvae.fit(model(), table, epochs=1, callbacks=[]))


def misspelt_names_are_refused() -> None:
    refused(lambda: mvae.fit(model(), {"x": X, "lable": Y}, epochs=1, callbacks=[]))
    refused(lambda: model().posterior({"x": X, "lable": Y}))
    refused(lambda: mvae.Table({"x": X}, {"lable": Y > 0}))


def invalid_numbers_are_refused() -> None:
    refused(lambda: mvae.MVAE({"x": mvae.Modality(X, X, "gaussian")}, 2))  # pyright: ignore[reportArgumentType]
    for latents in (2.5, True, "2", math.nan, None, 0, -1):
        refused(lambda latents=latents: mvae.MVAE(dict(model().modalities), latents))  # pyright: ignore
    for changed in ({"epochs": math.nan}, {"epochs": 2.5}, {"epochs": 10**400}, {"seed": 10**30}, {"run_dir": 3},
                    {"callbacks": [3]}, {"validation": 3}, {"learning_rate": 10**400}, {"run_dir": ""}):  # fmt: skip
        given: Any = {"epochs": 1, "callbacks": []} | changed
        refused(lambda given=given: mvae.fit(model(), data(), **given))


def many_random_subsets_do_not_take_long() -> None:
    mvae.fit(model(random_subsets=10**6), data(), epochs=2, callbacks=[])


def masked_values_are_missing() -> None:
    column = np.ma.masked_array(X.numpy(), np.arange(6)[:, None].repeat(3, 1) == 2)
    assert mvae.Table({"x": column, "y": Y}).present[:, 0].tolist() == [True, True, False, True, True, True]


def callers_column_gets_no_gradient() -> None:
    column = X.clone().requires_grad_()
    mvae.fit(model(), data(x=column), epochs=1, callbacks=[])
    model()({"x": column}).loss.backward()
    assert column.grad is None


def bfloat16_is_accepted() -> None:
    found = mvae.log_likelihood(model(torch.bfloat16), data(b=B.bfloat16()), ["x"], ["b"], samples=30)
    assert bool(found.values.isfinite().all())


def large_values_are_refused() -> None:
    refused(lambda: model().posterior({"x": X * 1e38}))


def unusual_indices_and_masks_are_refused() -> None:
    for index in (torch.arange(6).to_sparse(), (torch.arange(6) > 2).to_sparse(), torch.arange(3, device="meta"), None):
        refused(lambda index=index: mvae.Table(data())[index])  # pyright: ignore[reportArgumentType, reportCallIssue]
    refused(lambda: ColumnSchema.fit("x", np.ma.masked_array(np.zeros((0, 3)), np.zeros((0, 3), bool))))
    refused(lambda: mvae.networks.build("mlp", inputs=(3,), outputs=10**400, role="encoder"))
    assert model().generate(n=np.int64(2), seed=np.int64(2))["x"].shape == (2, 1, 3)  # pyright: ignore


def second_training_in_one_directory_is_refused(folder: Path) -> None:
    child = os.fork()
    if child == 0:
        with locked(folder / "shared"):
            os.kill(os.getpid(), 19)  # stop, while holding the lock
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        refused(lambda: mvae.fit(model(), data(), epochs=1, callbacks=[], run_dir=folder / "shared"))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    mvae.fit(model(), data(), epochs=1, callbacks=[], run_dir=folder / "shared")


def directory_can_be_used_after_a_failed_first_step(folder: Path) -> None:
    parts = {"x": {"kind": "real"}, "label": {"kind": "categorical"}}
    config = mvae.Config.from_dict({"data": {"source": str(folder / "data.npz")}, "modalities": parts})
    changed = config.change({"training": {"epochs": 1, "learning_rate": 1e30}})
    refused(lambda: mvae.train(changed, folder / "failed", callbacks=[]))
    mvae.train(config.change({"training": {"epochs": 1}}), folder / "failed", callbacks=[])


def deleted_run_directory_is_not_made_again(folder: Path) -> None:
    class Deletes(mvae.progress.Reporter):
        def on_epoch(self, values: dict[str, float]) -> None:
            for file in (folder / "deleted").iterdir():
                file.unlink()
            (folder / "deleted").rmdir()

    refused(lambda: mvae.fit(model(), data(), epochs=2, callbacks=[Deletes()], run_dir=folder / "deleted"))
    assert not (folder / "deleted").exists()


def devices_and_pipes_are_not_replaced(folder: Path) -> None:
    (folder / "taken").mkdir()
    os.mkfifo(folder / "taken" / "pipe")
    for target in (folder / "taken" / "pipe", Path("/dev/full"), folder / "taken"):
        refused(lambda target=target: write_whole(target, lambda file: None))
    assert stat.S_ISFIFO((folder / "taken" / "pipe").stat().st_mode)


def files_follow_the_umask(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        save_state(folder / "mode.safetensors", {"x": X}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "mode.safetensors").stat().st_mode) == 0o644


def pipe_is_refused_as_input(folder: Path) -> None:
    from mvae.data.parallel_text import read_lines

    os.mkfifo(folder / "pipe")
    refused(lambda: open_bounded(folder / "pipe"))
    refused(lambda: read_lines(folder / "pipe"))
    refused(lambda: mvae.Config.load(folder / "pipe"))


def warning_of_many_modalities_is_short() -> None:
    names = [f"a{i}" for i in range(19)]
    values: dict[str, float] = {}
    for name in names[1:]:
        values |= {f"gain a0->{name}": -1.0, f"gain a0->{name} s.e.": 0.1, f"log predictive a0->{name}": -2.0}
    said = coupling_warning(values, names)
    assert said is not None
    assert len(said) < 500


SEEDS: list[Callable[..., None]] = [
    training_works_under_no_grad, inference_mode_is_refused, tables_are_checked_like_mappings,
    misspelt_names_are_refused, invalid_numbers_are_refused,
    many_random_subsets_do_not_take_long, masked_values_are_missing,
    callers_column_gets_no_gradient, bfloat16_is_accepted,
    large_values_are_refused, unusual_indices_and_masks_are_refused, second_training_in_one_directory_is_refused,
    directory_can_be_used_after_a_failed_first_step, deleted_run_directory_is_not_made_again,
    devices_and_pipes_are_not_replaced, files_follow_the_umask, pipe_is_refused_as_input,
    warning_of_many_modalities_is_short,
]  # fmt: skip
