"""The declaration of a run: one definition per setting, errors that name the key, changes that keep the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvae.errors import SettingsError
from mvae.runs.config import Config, flattened, merged, parse_change

MINIMAL: dict[str, Any] = {"data": {"source": "x.npz"}}


def config(**changes: Any) -> Config:
    return Config.from_dict(merged(MINIMAL, changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainin": {}}, r"no key 'trainin'; there are .*training.*did you mean 'training'"),
        ({"training": {"epoch": 3}}, r"no key 'training.epoch'; there are .*epochs.*did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, r"training.epochs must be at least 1, not 0"),
        ({"training": {"epochs": 2.5}}, r"training.epochs must be a whole number, not 2.5"),
        ({"training": {"epochs": True}}, r"training.epochs must be a whole number, not True"),
        ({"training": {"learning_rate": float("nan")}}, r"training.learning_rate must be a finite number, not nan"),
        ({"model": {"latents": 0}}, r"model.latents must be at least 1"),
        ({"data": {"validation": 1.0}}, r"data.validation must be less than 1"),
        ({"data": {"source": ""}}, r"data.source: .*at least 1 character"),
        ({"modalities": {"x": {"weight": -1.0}}}, r"modalities.x.weight must be at least 0, not -1.0"),
        ({"modalities": {"x": {"wieght": 1.0}}}, r"no key 'modalities.x.wieght'.*did you mean 'weight'"),
        ({"modalities": {"": {}}}, r"modalities: a modality needs a name"),
        ({"seed": 10**30}, r"seed must be less than 2147483648"),
        ({"data": {"missing": "-999"}}, r"data.missing must be a list, not '-999'"),
        ({"data": {"missing": [["?"]]}}, r"data.missing.0 must be text or a whole number or a number, not \['\?'\]"),
        ({"data": {"source": 5}}, r"data.source must be text or a list, not 5"),
        ({"training": 5}, r"training must be a table of keys, not 5"),
        ({"modalities": {"x": {"columns": {"a": "real"}}}}, r"modalities.x.columns must be a list, not \{'a'"),
        ({"modalities": {"x": {"standardise": 1}}}, r"modalities.x.standardise must be true or false, not 1"),
        ({"modalities": {"hb [g/l]": {"weight": -1}}}, r"modalities.hb \[g/l\].weight must be at least 0"),
        ({"modalities": {"x": {"kinds": {"a": 5}}}}, r"modalities.x.kinds.a must be text or a table of keys, not 5"),
        ({"modalities": {"x": {"kinds": {"a": {"low": "b"}}}}}, r"modalities.x.kinds.a.low must be a number, not 'b'"),
        ({"modalities": {"x": {"kinds": {"a": {"lo": 1}}}}}, r"no key 'modalities.x.kinds.a.lo'; there are name, kind"),
        ({"callable": 1}, r"no key 'callable'; there are summary, seed"),
        ({"list[a]": 1}, r"no key 'list\[a\]'; there are summary, seed"),
        ({"training": {"str": 1}}, r"no key 'training.str'; there are epochs"),
    ],
)
def test_invalid_setting_is_named_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        config(**changes)
    assert "\n" not in str(caught.value)


def test_missing_keys_are_reported() -> None:
    with pytest.raises(SettingsError, match=r"^data is needed"):
        Config.from_dict({})
    with pytest.raises(SettingsError, match=r"^run.toml: data.source is needed"):
        Config.from_dict({"data": {}}, "run.toml")


def test_files_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[data]\nsource = "x.npz"\n[modalities."RNA.counts"]\nkind = "real"\n[model]\nrandom_subsets = 2\n')
    found = Config.load(path)
    assert list(found.modalities) == ["RNA.counts"]
    assert found.model.options == {"random_subsets": 2}
    for content, message in ((b"[data", "is not TOML"), (b"\xff\xfe", "is not UTF-8"), (b"[data]\nsorce = 1", "sorce")):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=message):
            Config.load(path)
    with pytest.raises(SettingsError, match="cannot read"):
        Config.load(tmp_path / "absent.toml")


def test_changed_epochs_scale_annealing_and_decay() -> None:
    long = config(training={"epochs": 500, "anneal_epochs": 200, "decay_epochs": 200})
    short = long.change({"training": {"epochs": 60}})
    assert (short.training.anneal_epochs, short.training.decay_epochs) == (24, 24)
    own = long.change({"training": {"epochs": 60, "anneal_epochs": 0}})
    assert (own.training.anneal_epochs, own.training.decay_epochs) == (0, 24)


def test_variants_apply_named_changes() -> None:
    both = config(variants={"small": {"training": {"epochs": 2}}, "wide": {"model": {"latents": 64}}})
    found = both.variant("small", "wide")
    assert (found.training.epochs, found.model.latents) == (2, 64)
    with pytest.raises(SettingsError, match=r"no variant 'smal'; there are small, wide \(did you mean 'small'"):
        both.variant("smal")


def test_resolved_keeps_only_the_options_of_its_model() -> None:
    several = config(models={"mvae": {"random_subsets": 1}, "jmvae": {"alpha": 0.1}}, variants={"x": {}})
    resolved = several.resolved()
    assert resolved.model.options == {"random_subsets": 1}
    assert (resolved.models, resolved.variants) == ({}, {})
    assert several.change({"model": {"name": "jmvae"}}).resolved().model.options == {"alpha": 0.1}
    assert several.change({"model": {"random_subsets": 3}}).resolved().model.options == {"random_subsets": 3}
    assert resolved.resolved() == resolved


def test_config_round_trips() -> None:
    made = config(modalities={"a b": {"kind": "real", "columns": ["x", "y"]}}, training={"epochs": 3}).resolved()
    assert Config.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@given(
    st.sampled_from(["training.epochs", "model.latents", "seed"]),
    st.integers(1, 10_000),
)
def test_parsed_change_is_applied(key: str, value: int) -> None:
    assert flattened(parse_change(f"{key}={value}")) == {key: value}
    assert flattened(config().change(parse_change(f"{key}={value}")).to_dict())[key] == value


def test_parse_change_reads_quoted_names_and_text() -> None:
    assert parse_change('modalities."RNA.counts".weight=2.0') == {"modalities": {"RNA.counts": {"weight": 2.0}}}
    assert parse_change("""a.'b.c=d'.kinds."e=f"=x=y""") == {"a": {"b.c=d": {"kinds": {"e=f": "x=y"}}}}
    assert parse_change("""kinds."e=f"="x" """) == {"kinds": {"e=f": "x"}}
    assert parse_change("""kinds.'e=f'={ kind = "bounded", low = 0 }""") == {
        "kinds": {"e=f": {"kind": "bounded", "low": 0}}
    }
    assert parse_change("""kinds."e=f".low=0""") == {"kinds": {"e=f": {"low": 0}}}
    assert parse_change("data.source=a=b.npz") == {"data": {"source": "a=b.npz"}}
    assert parse_change("data.source=my table.npz") == {"data": {"source": "my table.npz"}}
    assert parse_change("model.cross_from=['a']") == {"model": {"cross_from": ["a"]}}
    for text in ("epochs", "a b=1", "=1"):
        with pytest.raises(SettingsError, match="write KEY=VALUE"):
            parse_change(text)
    with pytest.raises(SettingsError, match="quote a name with other signs"):
        parse_change("modalities.labs.kinds.größe=real")


def test_schema_describes_every_key() -> None:
    schema = json.loads(Config.schema_text())

    def described(part: dict[str, Any]) -> None:
        for name, own in part.get("properties", {}).items():
            assert {"description", "$ref", "allOf"} & own.keys(), name

    for part in (schema, *schema["$defs"].values()):
        described(part)


def test_numpy_numbers_are_accepted() -> None:
    long = config(training={"epochs": np.int64(500), "decay_epochs": 200}, model={"latents": np.int32(3)})
    short = long.change({"training": {"epochs": np.int64(50), "learning_rate": np.float32(0.5)}})
    assert (short.training.epochs, short.training.decay_epochs, short.training.learning_rate) == (50, 20, 0.5)
    assert type(short.model.latents) is int
