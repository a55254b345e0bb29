"""Attacks on the Python interface: every public call, with one or two of its arguments replaced by unusual values."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

import mvae
from mvae.data.masking import keep_at_random, oversample_complete, pair_fraction
from mvae.data.schema import ColumnSchema
from mvae.data.split import split
from mvae.evaluation.likelihood import Denominator
from mvae.networks.mlp import LabelEncoder, mlp

ROWS = 6
X, B, Y = torch.linspace(-1, 1, 18).reshape(ROWS, 3), torch.linspace(0, 1, 12).reshape(ROWS, 2), torch.arange(ROWS) % 3


def model(dtype: torch.dtype = torch.float32, **options: Any) -> mvae.MVAE:
    torch.manual_seed(0)
    parts = {
        "x": mvae.Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), "gaussian"),
        "b": mvae.Modality(mlp(2, 4, [5]), mlp(2, 2, [5]), "bernoulli"),
        "y": mvae.Modality(LabelEncoder(3, 4, 5), mlp(2, 3, [5]), "categorical"),
    }
    return mvae.MVAE(parts, 2, **options).to(dtype)


def data(rows: int = ROWS, **changed: Any) -> dict[str, Any]:
    return {"x": X[:rows], "b": B[:rows], "y": Y[:rows]} | changed


def _saved(path: Any) -> Any:
    mvae.save(model(), path)
    return mvae.load(path, model())


def _rows(index: Any) -> Any:
    try:
        return mvae.Table(data())[index]
    except IndexError as error:  # like Python's own sequences
        raise mvae.errors.DataError(str(error)) from None


def _table(column: Any, present: Any = None) -> mvae.Table:
    return mvae.Table({"x": column}, present)


def _answers(column: Any, name: str) -> tuple[Any, ...]:
    """The answers to every query, given a column."""
    built, given = model(), {name: column}
    rest = next(n for n in built.names if n != name)
    answers = (
        built.posterior(given),
        built.generate(given, n=2, seed=0),
        built.predict(given, rest),
        built(given).loss.shape,
        mvae.log_likelihood(built, given, [name], samples=30),
    )
    table = mvae.Table(given)  # as a table instead of a mapping
    return (*answers, built.posterior(table), built.predict(table, rest))


@dataclass(frozen=True)
class Call:
    """A public function with valid arguments."""

    function: Callable[..., Any]
    valid: Mapping[str, Any]


def _temporary(name: str) -> str:
    return str(Path(tempfile.gettempdir()) / f"mvae-hostile-{name}")


CALLS: dict[str, Call] = {
    "MVAE": Call(model, {"random_subsets": 1, "distinct_terms": True, "cross_from": (), "cross_share": 0.5}),
    "MVAE's latents": Call(
        lambda modalities, latent_dim: mvae.MVAE(modalities, latent_dim),
        {"modalities": {"x": mvae.Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), "gaussian")}, "latent_dim": 2},
    ),
    "CVAE": Call(
        lambda **how: mvae.CVAE({"x": mvae.Modality(mlp(3, 4, [5]), mlp(2, 3, [5]), "gaussian")}, 2, **how),
        {"condition": "y", "classes": 3, "features": 0},
    ),
    "Modality": Call(
        mvae.Modality,
        {
            "encoder": mlp(3, 4, [5]),
            "decoder": mlp(2, 3, [5]),
            "likelihood": "gaussian",
            "weight": 1.0,
            "augment": None,
        },
    ),
    "Gaussian": Call(mvae.likelihoods.Gaussian, {"scale": 1.0, "learned": True, "least": 0.1}),
    "Bernoulli": Call(mvae.likelihoods.Bernoulli, {"levels": 255}),
    "network": Call(
        mvae.networks.build,
        {"spec": {"network": "mlp", "hidden": [4]}, "inputs": (3,), "outputs": 4, "role": "encoder"},
    ),
    "Noise": Call(lambda std: mvae.augment.Noise(std)(X), {"std": 0.1}),
    "Shift": Call(lambda pixels: mvae.augment.Shift(pixels)(X.reshape(2, 1, 3, 3)), {"pixels": 1}),
    "Power": Call(lambda exponent: mvae.augment.Power(exponent)(X), {"exponent": 0.5}),
    "Table": Call(_table, {"column": X, "present": {"x": torch.ones(ROWS, dtype=torch.bool)}}),
    "rows": Call(_rows, {"index": [0, 2]}),
    "fit": Call(
        lambda **how: mvae.fit(model(), **how).epochs,
        {
            "data": data(),
            "epochs": 1,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "anneal_epochs": 1,
            "decay_epochs": 0,
            "beta": 1.0,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "seed": 0,
            "validation": data(),
            "callbacks": [],
            "run_dir": None,
            "resume": False,
            "optimizer": "adam",
            "settings": None,
        },
    ),
    "posterior": Call(lambda **arguments: model().posterior(**arguments), {"data": data(), "given": ["x"]}),
    "generate": Call(
        lambda **arguments: model().generate(**arguments),
        {"data": data(), "of": ["x"], "n": 2, "mean": False, "generator": None, "seed": 0},
    ),
    "predict": Call(lambda **arguments: model().predict(**arguments), {"data": data(), "of": "x", "n": 2, "seed": 0}),
    "log_likelihood": Call(
        lambda **arguments: mvae.log_likelihood(model(), **arguments),
        {
            "data": data(),
            "of": ["x"],
            "given": ["y"],
            "proposal": ["x"],
            "samples": 25,
            "seed": 0,
            "denominator": Denominator(),
        },
    ),
    "Denominator": Call(Denominator, {"how": "prior", "samples": 20}),
    "column of x": Call(lambda column: _answers(column, "x"), {"column": X}),
    "column of b": Call(lambda column: _answers(column, "b"), {"column": B}),
    "column of y": Call(lambda column: _answers(column, "y"), {"column": Y}),
    "trained column": Call(
        lambda column: mvae.fit(model(), {"x": column}, epochs=1, callbacks=[]).epochs, {"column": X}
    ),
    "save": Call(_saved, {"path": _temporary("model")}),
    "Config": Call(
        lambda **values: mvae.build(mvae.Config.from_dict({"data": {"source": "x.npz"}, **values})).latent_dim,
        {
            "modalities": {"x": {"kind": "real", "shape": [3]}},
            "model": {"latents": 2},
            "training": {"epochs": 1},
            "seed": 0,
        },
    ),
    "modality's settings": Call(
        lambda **own: (
            mvae.build(
                mvae.Config.from_dict(
                    {"data": {"source": "x.npz"}, "modalities": {"x": {"kind": "real", "shape": [3]} | own}}
                )
            ).latent_dim
        ),
        {
            "shape": [3],
            "kind": "real",
            "weight": 1.0,
            "encoder": {"network": "mlp", "hidden": [4]},
            "likelihood": "gaussian",
            "augment": ["noise"],
            "classes": 3,
            "length": 4,
        },
    ),
    "pair_fraction": Call(pair_fraction, {"table": mvae.Table({"x": X, "y": Y}), "fraction": 0.5, "seed": 0}),
    "oversample": Call(oversample_complete, {"table": mvae.Table({"x": X, "y": Y}), "times": 2}),
    "keep_at_random": Call(keep_at_random, {"table": mvae.Table({"x": X, "y": Y}), "keep_probability": 0.9, "seed": 0}),
    "split": Call(split, {"table": mvae.Table(data()), "validation": 0.2, "test": 0.2, "seed": 0}),
    "schema": Call(
        lambda values, present, kind: ColumnSchema.fit("x", values, present, kind).encode(values, present),
        {"values": [1, 2, 3, 1, 2, 3], "present": None, "kind": None},
    ),
}

SCALARS = st.sampled_from(
    [None, True, False, -1, 0, 1, 2, 3, 2**16, 10**12, 10**30, 10**400, -(10**30), 2.5, -0.0, 1e-320, 1e300, math.nan,
     math.inf, -math.inf, "", "x", "3", "nan", "~nouser", "a" * 300, "a\0b", b"x", [], [0], ["x"], ["x", "x"], ["zz"],
     ("x",), {"x"}, {}, {"x": 1}, {1: 2}, {"zz": X}, object(), object, print, lambda *a: a, np.int64(2),
     np.float32(2.5),
     np.bool_(True), torch.tensor(1), torch.tensor(math.nan), X, 1j, range(3), slice(None), Exception("x"), Path("/")]
)  # fmt: skip
DTYPES = ["f2", "f4", "f8", ">f4", ">i2", "i1", "u1", "u2", "u4", "u8", "i8", "?", "c8", "O", "U3", "S3", "M8[D]", "g"]
VALUES = [0.0, 1.0, 0.5, 2.0, -1.0, 11.0, 255.0, 1e30, 1e38, 1e300, math.nan, math.inf, -math.inf]


@st.composite
def columns(draw: st.DrawFn) -> Any:
    """A column in any container, with an unusual dtype, shape, layout or value."""
    shape = draw(
        st.sampled_from([(ROWS,), (ROWS, 3), (ROWS, 2), (ROWS, 1), (ROWS, 3, 1), (0, 3), (ROWS, 0), (), (1, 3)])
    )
    value = draw(st.sampled_from(VALUES))
    base = np.broadcast_to(np.float64(value), shape).copy()
    if base.size and draw(st.booleans()):
        base.reshape(-1)[draw(st.integers(0, base.size - 1))] = draw(st.sampled_from(VALUES))
    try:
        with np.errstate(all="ignore"):
            array = base.astype(draw(st.sampled_from(DTYPES)))
    except (ValueError, TypeError, OverflowError):
        array = base
    return _contained(draw, array)


def _contained(draw: st.DrawFn, array: np.ndarray) -> Any:
    containers: dict[str, Callable[[], Any]] = {
        "array": lambda: array,
        "reversed": lambda: array[::-1],
        "strided": lambda: np.repeat(array, 2, 0)[::2],
        "read-only": lambda: np.broadcast_to(array, array.shape),
        "fortran": lambda: np.asfortranarray(array),
        "list": lambda: array.tolist(),
        "masked": lambda: np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) % 2 == 0),
        "frame": lambda: pd.DataFrame(array),
        "series": lambda: pd.Series(array),
        "nullable": lambda: pd.Series(array).astype("Float64"),
        "category": lambda: pd.Series(array).astype("category"),
        "tensor": lambda: torch.from_numpy(array),
        "sparse": lambda: torch.from_numpy(array).to_sparse(),
        "bfloat16": lambda: torch.from_numpy(array).bfloat16(),
        "half": lambda: torch.from_numpy(array).half(),
        "meta": lambda: torch.from_numpy(array).to("meta"),
        "grad": lambda: torch.from_numpy(array).float().requires_grad_(),
        "complex": lambda: torch.from_numpy(array).to(torch.complex64),
        "expanded": lambda: torch.from_numpy(array)[:1].expand(array.shape),
        "iterator": lambda: iter(array.tolist()),
    }
    try:
        return containers[draw(st.sampled_from(sorted(containers)))]()
    except Exception:  # the container cannot hold it, so this is not an attack on mvae
        return array


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Callable[[], Any]]:
    """The name of a case, and its call."""
    name = draw(st.sampled_from(sorted(CALLS)))
    call = CALLS[name]
    changed: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(sorted(call.valid)), min_size=1, max_size=2, unique=True)):
        unusual = columns() if key in ("column", "values") else st.one_of(SCALARS, columns())
        if key in ("data", "table", "validation"):
            unusual = st.one_of(unusual, st.builds(lambda column: data(x=column), columns()))
        changed[key] = draw(unusual)
        if key == "epochs" and type(changed[key]) is int and changed[key] > 3:
            changed[key] = 10**12  # would be valid, but take long
    shown = ", ".join(f"{key}={_shown(value)}" for key, value in changed.items())
    return f"{name}({shown})", lambda: call.function(**{**call.valid, **changed})


def _shown(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(one)}" for key, one in value.items()) + "}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{kind} {value.dtype} {tuple(value.shape)} {str(value).split()[:3]}"
    try:
        return repr(value)[:40]
    except Exception:
        return kind
