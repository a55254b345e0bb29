"""Column schemas: encoding is reversible and learned only from the observed training rows."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvae.data.schema import ColumnSchema, infer_kind
from mvae.data.split import encoded_split
from mvae.data.table import Table
from mvae.errors import DataError

EVENTS = st.sampled_from([(), (3,), (2, 2)])


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A kind and values that are valid for it."""
    rows, kind = draw(st.integers(1, 12)), draw(st.sampled_from(["real", "binary", "categorical", "text", "picture"]))
    shape = (rows, *draw(EVENTS))
    if kind == "real":
        floats = hnp.arrays(hnp.floating_dtypes(), shape, elements=st.integers(-1000, 1000).map(lambda i: i / 8))
        return kind, draw(st.one_of(floats, hnp.arrays(np.int64, shape, elements=st.integers(-(2**50), 2**50)),
                                    hnp.arrays(np.uint8, shape)))  # fmt: skip
    if kind == "binary":
        return kind, draw(hnp.arrays(st.sampled_from([np.bool_, np.int64, np.float32, np.uint8]), shape,
                                     elements=st.sampled_from([0, 1])))  # fmt: skip
    if kind == "categorical":
        return kind, draw(hnp.arrays(st.sampled_from([np.int64, np.uint8, np.int16, np.float64]), shape,
                                     elements=st.integers(0, 100)))  # fmt: skip
    if kind == "text":
        words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
        made = np.array(draw(st.lists(words, min_size=rows, max_size=rows)))
        return "categorical", made.astype(object) if draw(st.booleans()) else made
    return kind, draw(st.one_of(hnp.arrays(np.uint8, shape), hnp.arrays(np.int16, shape, elements=st.integers(0, 255)),
                                hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))))  # fmt: skip


@given(columns())
def test_decoding_inverts_encoding_and_a_schema_survives_json(made: tuple[str, np.ndarray]) -> None:
    kind, values = made
    schema = ColumnSchema.fit("x", values, kind=kind)  # pyright: ignore[reportArgumentType]
    stored = ColumnSchema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert stored == schema
    encoded = stored.encode(values)
    back = stored.decode(encoded)
    assert back.shape == values.shape
    assert (back == values).all()
    if kind != "real":
        assert back.dtype.kind == ("U" if values.dtype.kind == "O" else values.dtype.kind)
    Table({"x": encoded})  # is accepted as a column


@given(columns(), st.data())
def test_nothing_is_learned_from_missing_rows(made: tuple[str, np.ndarray], data: st.DataObject) -> None:
    kind, values = made
    here = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    here[data.draw(st.integers(0, len(values) - 1))] = True
    spoilt = values.copy()
    garbage: Any = "garbage" if values.dtype.kind in "OU" else np.nan if values.dtype.kind == "f" else 1
    spoilt[~here] = garbage
    expected = ColumnSchema.fit("x", values[here], kind=kind)  # pyright: ignore[reportArgumentType]
    fitted = ColumnSchema.fit("x", spoilt, here, kind)  # pyright: ignore[reportArgumentType]
    assert fitted == expected or values.dtype.kind == "O"
    fitted.encode(spoilt, here)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_mean_and_std_are_of_the_observed_values_per_position(dtype) -> None:
    values = (np.random.RandomState(0).rand(1000, 3) * 200).astype(dtype)
    here = np.arange(1000) % 3 > 0
    schema = ColumnSchema.fit("x", values, here, "real")
    np.testing.assert_allclose(schema.mean, values[here].astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(schema.std, values[here].astype(np.float64).std(0), rtol=1e-12)
    picture = ColumnSchema.fit("x", values.reshape(1000, 1, 3), kind="real")
    np.testing.assert_allclose(picture.std, values.astype(np.float64).std(), rtol=1e-12)
    assert ColumnSchema.fit("x", [1e9 + 7, 1e9 + 7], kind="real").std == (1.0,)
    assert ColumnSchema.fit("x", [1e9, 1e9 + 2], kind="real").std == (1.0,)


def test_byte_counts_are_encoded_as_numbers_not_as_levels() -> None:
    encoded = ColumnSchema.fit("counts", np.array([20, 255], np.uint8), kind="real").encode(np.array([20], np.uint8))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [20]


def test_decoded_pictures_have_the_original_levels() -> None:
    bytes_ = ColumnSchema.fit("image", np.zeros((2, 1, 8, 8), np.uint8))
    assert bytes_.levels == 255
    samples = torch.full((3, 1, 8, 8), 0.5)
    assert bytes_.decode(255 * samples).dtype == np.uint8
    assert (bytes_.decode(255 * samples) == 128).all()
    assert ColumnSchema.fit("mask", np.eye(8, dtype=np.uint8).reshape(1, 1, 8, 8)).levels == 1  # it has only 0 and 1
    assert (ColumnSchema.fit("image", np.zeros((2, 1, 8, 8), np.float32)).decode(samples) == 0.5).all()


def test_a_mean_of_integers_is_not_rounded() -> None:
    assert ColumnSchema.fit("age", [30, 41], kind="real").decode(torch.tensor([35.5])).tolist() == [35.5]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], "binary"), ([0, 1, 1], "binary"), ([0.0, 1.0], "binary"), (["a", "b"], "categorical"),
        ([0, 1, 2], "categorical"), ([-1, 0, 1], "real"), (list(range(100)), "real"), ([0.5, 1.0], "real"),
        ([1.0, 2.0], "real"), ([0.0, np.nan], "real"), (np.zeros((4, 28, 28), np.uint8), "picture"),
        (np.ones((4, 3, 9, 9)) / 2, "picture"), (np.ones((4, 3, 9, 9)) * 2, "real"), (np.zeros((4, 2), bool), "binary"),
        (np.full((4, 5), 3, np.uint8), "real"), (np.arange(2, 6, dtype=np.uint8), "categorical"),
    ],
)  # fmt: skip
def test_a_kind_is_proposed_with_a_reason(values, kind: str) -> None:
    proposal, reason = infer_kind(values)
    assert proposal == kind
    assert reason
    assert infer_kind(np.concatenate([np.asarray(values)] * 2), np.arange(2 * len(values)) < len(values)) == (
        proposal, reason
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fit", "encode", "present", "kind", "says"),
    [
        (
            ["a", "b"],
            ["a", "c"],
            None,
            None,
            "column 'x', row 1: the category 'c' is in no training row. Known are 'a'",
        ),
        ([3, 5], [3, 5, 4], None, "categorical", "row 2: the category 4 is in no training row. Known are 3, 5"),
        (
            [0.5, 1.5],
            [1.0, np.nan],
            None,
            None,
            "column 'x', row 1: nan does not fit the kind 'real', which holds finite",
        ),
        ([0, 1], [1, 2], None, None, "column 'x', row 1: 2 does not fit the kind 'binary', which holds 0 and 1"),
        ([0.0, 0.5], [1.5], None, "picture", "row 0: 1.5 does not fit the kind 'picture', which holds levels 0 to 1"),
        ([[0.0, 0.5]], [1.5], None, "real", "column 'x' has rows of shape () instead of (2,)"),
        ([0.5, 1.5], ["a"], None, "real", "column 'x' is real, but holds <U1: give numbers"),
        (["a", "b"], None, None, "real", "column 'x' holds text, no numbers: it is categorical"),
        (["a", None], None, None, None, "column 'x', row 1: None is not text, unlike the others: mark it as missing"),
        ([0.5, 1.5], None, None, "categorical", "column 'x', row 0: categories are integers or text, not 0.5"),
        ([0.5, 1.5], None, [False, False], None, "column 'x' is present in no training row"),
        (
            [0.5, 1.5],
            None,
            [True],
            None,
            "present['x'] has shape (1,) and dtype torch.bool",
        ),
        ([0.5, np.inf], None, None, "real", "column 'x', row 1: inf does not fit"),
        ([1j], None, None, None, "column 'x' has dtype complex128"),
    ],
)
def test_invalid_values_are_refused_with_value_and_row(fit, encode, present, kind, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):  # noqa: PT012
        schema = ColumnSchema.fit("x", fit, None if present is None else np.array(present), kind)
        schema.encode(encode)


def test_unknown_codes_and_foreign_json_are_refused() -> None:
    schema = ColumnSchema.fit("x", ["a", "b"])
    with pytest.raises(DataError, match="column 'x' has codes 0 to 1, not 2"):
        schema.decode(torch.tensor([0, 2]))
    for wrong in ({}, {"name": "x"}, schema.to_dict() | {"kind": "odd"}, schema.to_dict() | {"dtype": "object"}):
        with pytest.raises(DataError, match="this is not the schema of a column"):
            ColumnSchema.from_dict(wrong)


# A whole table


def test_encoded_split_learns_from_the_training_rows() -> None:
    random = np.random.RandomState(0)
    sex, age, here = random.choice(["f", "m"], 100), random.normal(40, 10, 100), random.rand(100) < 0.5
    data = encoded_split({"sex": sex, "age": np.ma.array(age, mask=~here)}, validation=0.2, test=0.2, seed=1)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [60, 20, 20]
    values = np.asarray(data.train["age"])[data.train.has("age").numpy()]
    assert data.schema["age"].mean == pytest.approx((values.mean(),))
    assert data.codecs["sex"].format(torch.tensor(1)) == "m"
    decoded = np.concatenate(
        [data.schema["sex"].decode(part["sex"]) for part in (data.train, data.validation, data.test)]
    )
    assert sorted(decoded) == sorted(sex)
    again = encoded_split({"sex": sex, "age": age}, {"age": here}, schema=data.schema, validation=0.2, test=0.2, seed=1)
    assert torch.equal(torch.as_tensor(again.test["sex"]), torch.as_tensor(data.test["sex"]))
    assert torch.equal(again.train.present, data.train.present)
    with pytest.raises(DataError, match=r"'a' has 9, 'b' has 8"):
        encoded_split({"a": range(9), "b": range(8)})


def test_series_of_text_and_categories_bring_their_missing_values() -> None:
    pd = pytest.importorskip("pandas")
    for kind, values in (("category", ["a", "b", None]), ("string", ["a", "b", None]), ("category", [3, 4, None])):
        data = encoded_split({"x": pd.Series(values * 10, dtype=kind), "y": range(30)}, kinds={"y": "real"})
        assert data.schema["x"].classes == tuple(values[:2])
        assert int(sum(part.has("x").sum() for part in (data.train, data.validation, data.test))) == 20
