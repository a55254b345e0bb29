"""Exported graphs match the model for any number of rows, and the example runs without PyTorch."""

import ast
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mvae
from mvae.errors import QueryError
from mvae.export.directory import export_model
from mvae.export.draws import draw_of
from mvae.export.rule import posterior_rule
from mvae.files import read_json
from mvae.gaussian import Gaussian
from mvae.models.base import MultimodalVAE
from mvae.runs.build import build
from mvae.runs.config import Config
from mvae.runs.source import shipped_declaration
from tests.command import assert_refused
from tests.command import mvae as command
from tests.module import module_at
from tests.unchecked import unchecked_shapes as unchecked_shapes

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


TABLE = {
    "data": {"source": "x.npz"},
    "model": {"latents": 3},
    "modalities": {
        "labs": {"kind": "real", "columns": ["hb", "na"], "shape": [2]},
        "date": {"kind": "real", "shape": [1], "likelihood": "laplace"},
        "a`<b>|": {"kind": "categorical", "classes": 3},
        "flags": {"kind": "binary", "shape": [4]},
    },
}
LSTM = {"network": "lstm", "embedding": 5, "hidden": 7}
SENTENCE = {"kind": "sentence", "columns": ["en"], "classes": 12, "length": 6, "encoder": LSTM, "decoder": LSTM}
WITH_SENTENCE = TABLE | {"modalities": {"en": SENTENCE, "topic": {"kind": "categorical", "classes": 3}}}


def run(folder: Path, file: str, **inputs: np.ndarray) -> list[np.ndarray]:
    if file.endswith(".pt2"):
        program = torch.export.load(folder / file).module()
        return [x.numpy() for x in program(**{name: torch.as_tensor(x) for name, x in inputs.items()})]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / file, options).run(None, inputs)


def values_of(part: dict[str, Any], rows: int, generator: torch.Generator) -> Tensor:
    """Valid values of the modality."""
    if part["kind"] == "string":
        x = torch.randint(0, part["stop"], (rows, *part["shape"]), generator=generator)
        ends = torch.randint(0, part["shape"][0] + 1, (rows, 1), generator=generator)
        return torch.where(torch.arange(part["shape"][0]) < ends, x, part["stop"])
    if part["kind"] == "sentence":  # of every length, including empty and longest
        x = torch.randint(1, part["tokens"], (rows, *part["shape"]), generator=generator)
        ends = torch.arange(rows)[:, None] % part["shape"][0]
        return torch.where(torch.arange(part["shape"][0]) < ends, x, part["stop"])
    if part["dtype"] == "int64":
        return torch.randint(0, len(part["classes"]), (rows, *part["shape"]), generator=generator)
    x = torch.rand(rows, *part["shape"], generator=generator)
    return 1.7e9 + 1e5 * x.double() if part["dtype"] == "float64" else (x * part.get("levels", 1)).round()


def drawn_string(modality: Any, z: Tensor, noise: Tensor) -> Tensor:
    """Tokens drawn one by one with Gumbel noise; the decoder reads the whole prefix each time."""
    rows = []
    for i in range(len(z)):
        tokens: list[int] = []
        while len(tokens) < modality.length and modality.stop not in tokens:
            logits, _ = modality.decoder(z[i : i + 1], torch.tensor([[modality.start, *tokens]]), None)
            tokens.append(int((logits[0, -1] - (-noise[i, len(tokens)].log()).log()).argmax()))
        rows.append(tokens + [modality.stop] * (modality.length - len(tokens)))
    return torch.tensor(rows)


def drawn_sentence(modality: Any, z: Tensor, noise: Tensor) -> Tensor:
    """Words drawn one by one, by inverting the cumulative distribution at a uniform number."""
    rows = []
    for i in range(len(z)):
        tokens: list[int] = []
        before, state = modality.decoder.vocabulary, modality.decoder.begin(z[i : i + 1])
        while len(tokens) < modality.length - 1 and modality.stop not in tokens:
            log_p, state = modality.decoder.advance(torch.tensor([before]), state)
            p = log_p[0].double().exp().numpy()
            before = int(np.searchsorted(p.cumsum() / p.sum(), float(noise[i, len(tokens)])))
            tokens.append(before)
        rows.append(tokens + [modality.stop] * (modality.length - len(tokens)))
    return torch.tensor(rows)


def assert_same_answers(model: MultimodalVAE, folder: Path, rows: int) -> None:
    described, generator = read_json(folder / "model.json"), torch.Generator().manual_seed(rows)
    for part in described["modalities"]:
        name, modality = part["name"], model.modalities[part["name"]]
        x = values_of(part, rows, generator)
        precision, shift = run(folder, part["encoder"], x=x.numpy())
        with torch.no_grad():
            expert = model.expert(name, modality.prepare(x))
            np.testing.assert_allclose(precision, expert.precision, rtol=1e-5)
            np.testing.assert_allclose(shift, expert.shift, rtol=1e-5, atol=1e-5)
            z = torch.randn(rows, model.latent_dim, generator=generator)
            noise = torch.rand(rows, *part["noise_shape"], generator=generator).clamp(1e-7)
            if "stop" in part:
                written, drawn = run(folder, part["decoder"], z=(3 * z).numpy(), noise=noise.numpy())
                np.testing.assert_array_equal(written, modality.generate(3 * z, mean=True))
                expected = drawn_string if part["kind"] == "string" else drawn_sentence
                np.testing.assert_array_equal(drawn, expected(modality, 3 * z, noise))
                continue
            mean, drawn = run(folder, part["decoder"], z=z.numpy(), noise=noise.numpy())
            expected = modality.generate(z, mean=True)
            scale = part.get("levels", 1e5 if part["dtype"] == "float64" else 1)
            np.testing.assert_allclose(mean / scale, expected / scale, rtol=1e-5, atol=1e-5)
            draw = draw_of(modality.likelihood)
            assert draw is not None
            own = modality.likelihood.stored(draw.of(modality.likelihood, modality.decode(z), noise))
            own = own if modality.scaling is None else modality.scaling.in_units(own, 1)
            np.testing.assert_allclose(drawn / scale, own / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["digits", "celeba", "multimnist"])
def test_the_graphs_of_a_shipped_experiment_match_the_model(name: str, tmp_path: Path) -> None:
    config = shipped_declaration(name)
    model = build(config).eval()
    export_model(model, config, tmp_path, {})
    for rows in (1, 17):
        assert_same_answers(model, tmp_path, rows)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultimodalVAE, Path]:
    """An exported model of a user's table: real values are standardised, names are unusual."""
    folder = tmp_path_factory.mktemp("export")
    config = Config.from_dict(TABLE)
    model = build(config)
    g = torch.Generator().manual_seed(0)
    for name, width in (("labs", 2), ("date", 1)):
        scaling = model.modalities[name].scaling
        assert scaling is not None
        scaling.fit(mvae.Table({name: 1.7e9 + 1e5 * torch.rand(50, width, generator=g).double()}), name)
    export_model(model.eval(), config, folder, {"schema": {"a`<b>|": {"classes": ["<i>", "m", "o"]}}})
    return model, folder


def test_the_graphs_of_a_table_match_the_model(table: tuple[MultimodalVAE, Path]) -> None:
    model, folder = table
    for rows in (1, 5):
        assert_same_answers(model, folder, rows)
    parts = {part["name"]: part for part in read_json(folder / "model.json")["modalities"]}
    assert parts["labs"]["columns"] == ["hb", "na"]
    assert parts["a`<b>|"]["classes"] == ["<i>", "m", "o"]


def test_programs_of_torch_export_match_the_model(table: tuple[MultimodalVAE, Path], tmp_path: Path) -> None:
    """For a table and for sentences, any number of rows, and without mvae in the process."""
    configs = [Config.from_dict(WITH_SENTENCE), Config.from_dict(TABLE)]
    models = [build(configs[0]).eval(), table[0]]
    for number, (config, model) in enumerate(zip(configs, models, strict=True)):
        folder = tmp_path / str(number)
        export_model(model, config, folder, {}, "torch")
        assert {file.suffix for file in folder.iterdir()} == {".json", ".mvae", ".pt2"}
        for rows in (1, 17):
            assert_same_answers(model, folder, rows)
    code = (
        "import sys, torch; sys.modules['mvae'] = None\n"
        "print(*torch.export.load('decoder-0.pt2').module()(z=torch.zeros(2, 3), noise=torch.full((2, 6), 0.5)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "0", check=True, capture_output=True)


def test_an_exported_folder_is_loaded_as_a_model(table: tuple[MultimodalVAE, Path]) -> None:
    model, folder = table
    given = {"a`<b>|": torch.tensor([2, 0])}
    assert torch.equal(mvae.load(folder).predict(given, of="date"), model.predict(given, of="date"))


def test_the_example_matches_the_model_without_torch(table: tuple[MultimodalVAE, Path]) -> None:
    """Posterior and decoder together: E[x | given] over many draws, compared with the model's own."""
    model, folder = table
    code = (
        "import sys, json; sys.modules['torch'] = None\n"
        "import example\n"
        "mean, draws = example.answer({'a`<b>|': [2, 0], 'flags': [[1, 0, 1, 1]] * 2}, 'flags', n=4000)\n"
        "print(json.dumps([mean.tolist(), draws.mean(0).tolist(), list(draws.shape)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    mean, drawn, shape = json.loads(done.stdout)
    given = {"a`<b>|": torch.tensor([2, 0]), "flags": torch.tensor([[1.0, 0.0, 1.0, 1.0]] * 2)}
    with torch.no_grad():
        z = model.posterior(given).sample(4000, torch.Generator().manual_seed(1))
        expected = model.modalities["flags"].generate(z.float(), mean=True).mean(0)
    np.testing.assert_allclose(mean, expected, atol=0.01)
    np.testing.assert_allclose(drawn, expected, atol=0.04)
    assert shape == [4000, 2, 4]


def test_the_example_has_at_most_30_lines_of_code() -> None:
    """Blank lines and docstrings do not count."""
    code = files("mvae.export").joinpath("example.py.txt").read_text(encoding="utf-8")
    expressions = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Expr)]
    texts = [value for value in expressions if isinstance(value, ast.Constant)]
    documented = {line for text in texts for line in range(text.lineno, (text.end_lineno or 0) + 1)}
    lines = [line for number, line in enumerate(code.splitlines(), 1) if line.strip() and number not in documented]
    assert len(lines) <= 30


@pytest.mark.parametrize("linear_start", [False, True])
def test_a_modality_of_columns_is_exported_with_missing_values(linear_start: bool, tmp_path: Path) -> None:
    kinds = {"hb": "real", "crp": "positive", "ward": "categorical", "stage": "ordinal", "sick": "binary"}
    fields = [{"name": n, "kind": k} | ({"classes": 3} if n in ("ward", "stage") else {}) for n, k in kinds.items()]
    parts = {"t": {"kind": "columns", "columns": list(kinds), "fields": fields, "linear_start": linear_start}}
    config = Config.from_dict({"data": {"source": "x.csv"}, "model": {"latents": 2}, "modalities": parts})
    model, g = build(config), np.random.default_rng(0)
    x = np.stack([g.normal(13, 2, 60), g.lognormal(size=60), *g.integers(0, 3, (2, 60)), g.integers(0, 2, 60)], 1)
    there = g.random(x.shape) < 0.8
    there[:, 0] = True
    model.modalities["t"].fit_scaling(mvae.Table({"t": x}, {"t": there}), "t")
    layout = {"columns": [{"name": "ward", "classes": ["a", "<b>", "c"]}]}
    (part,) = export_model(model.eval(), config, tmp_path, {"layout": layout})["modalities"]
    assert part["columns"] == list(kinds)
    assert part["categories"] == {"ward": ["a", "<b>", "c"], "stage": [0, 1, 2], "sick": [0, 1]}
    precision, shift = run(tmp_path, part["encoder"], x=np.where(there, x, np.nan))
    q = model.posterior(mvae.Table({"t": x}, {"t": there}))
    assert isinstance(q, Gaussian)
    np.testing.assert_allclose(1 + precision, q.precision, rtol=1e-5)
    np.testing.assert_allclose(shift / (1 + precision), q.mean, rtol=1e-4, atol=1e-5)
    z = np.zeros((20_000, 2), "float32")
    mean, drawn = run(
        tmp_path, part["decoder"], z=z, noise=g.normal(size=(20_000, *part["noise_shape"])).astype("float32")
    )
    with torch.no_grad():
        np.testing.assert_allclose(mean[0], model.modalities["t"].generate(torch.zeros(2), mean=True), rtol=1e-5)
        own = model.modalities["t"].generate(torch.zeros(20_000, 2)).numpy()
    for i in range(5):  # the same distribution, drawn in another way
        for share in (0.1, 0.5, 0.9):
            least = np.quantile(own[:, i], share) + 1e-6
            assert np.mean(drawn[:, i] <= least) == pytest.approx(np.mean(own[:, i] <= least), abs=0.02)


def test_dates_of_an_exported_table_are_exact(tmp_path: Path) -> None:
    """onnxruntime computes sines in float32, in which an angle of thousands of weeks has three decimals."""
    fields = [{"name": "visit", "kind": "date"}]
    parts = {"t": {"kind": "columns", "columns": ["visit"], "fields": fields}}
    config = Config.from_dict({"data": {"source": "x.csv"}, "model": {"latents": 2}, "modalities": parts})
    model, x = build(config), 1.7e9 + 86_400 * np.arange(40.0)[:, None]
    model.modalities["t"].fit_scaling(mvae.Table({"t": x}), "t")
    (part,) = export_model(model.eval(), config, tmp_path, {})["modalities"]
    q = model.posterior({"t": torch.from_numpy(x)})
    assert isinstance(q, Gaussian)
    precision, shift = run(tmp_path, part["encoder"], x=x)
    np.testing.assert_allclose(shift / (1 + precision), q.mean, atol=2e-6)


def test_columns_next_to_counts_are_drawn(tmp_path: Path) -> None:
    """Once, categories were not drawn in a table with a column of counts, and a mean of codes means nothing."""
    fields = [{"name": "ward", "kind": "categorical", "classes": 3}, {"name": "visits", "kind": "count"}]
    parts = {"t": {"kind": "columns", "columns": ["ward", "visits"], "fields": fields}}
    config = Config.from_dict({"data": {"source": "x.csv"}, "model": {"latents": 2}, "modalities": parts})
    model, g = build(config), np.random.default_rng(0)
    x = np.stack([g.choice(3, 60, p=[0.7, 0.2, 0.1]), g.poisson(4, 60)], 1).astype(float)
    model.modalities["t"].fit_scaling(mvae.Table({"t": x}), "t")
    (part,) = export_model(model.eval(), config, tmp_path, {})["modalities"]
    assert part["undrawn"] == ["visits"]
    noise = g.normal(size=(9000, *part["noise_shape"])).astype("float32")
    mean, drawn = run(tmp_path, part["decoder"], z=np.zeros((9000, 2), "float32"), noise=noise)
    with torch.no_grad():
        own = model.modalities["t"].generate(torch.zeros(9000, 2)).numpy()
    for code in range(3):
        assert (drawn[:, 0] == code).mean() == pytest.approx((own[:, 0] == code).mean(), abs=0.02)
    np.testing.assert_allclose(drawn[:, 1], mean[:, 1], rtol=1e-6)


SMALL = TABLE | {"modalities": {name: TABLE["modalities"][name] for name in ("a`<b>|", "flags")}}


@pytest.mark.parametrize(
    ("name", "combine", "prior"),
    [
        ("mvae", "product", (1, 1)),
        ("mvae_q", "product", (1, 1)),
        ("mvtcae", "product", (0, 0)),
        ("bivcca", "one", (0, 0)),
        ("jmvae", "one", (0, 0)),
        ("telbo", "product", (0, 1)),
        ("mmvae", "experts", (0, 0)),
        ("mmvm", "experts", (0, 0)),
        ("mopoe", "subsets", (0, 0)),
    ],
)
def test_each_model_has_its_rule_for_combining_experts(name: str, combine: str, prior: tuple[float, float]) -> None:
    rule = posterior_rule(build(Config.from_dict(TABLE | {"model": {"name": name, "latents": 2}})).eval())
    assert (rule.combine, rule.prior_precision, rule.alone is not None) == (combine, prior, name == "telbo")


@pytest.mark.parametrize("name", ["telbo", "mmvae", "mopoe"])  # the MVAE is tested with the table above
def test_the_examples_posterior_matches_the_model(name: str, tmp_path: Path) -> None:
    """Given one modality and both; components are compared in the order of the model."""
    config = Config.from_dict(SMALL | {"model": {"name": name, "latents": 2}})
    model = build(config).eval()
    export_model(model, config, tmp_path, {})
    example = module_at(tmp_path / "example.py")
    both = {"a`<b>|": torch.tensor([2, 0]), "flags": torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])}
    for names in (["a`<b>|"], ["flags"], ["a`<b>|", "flags"]):
        given = {key: both[key] for key in names}
        q = model.posterior(given)
        components = [q] if isinstance(q, Gaussian) else list(q.components.unbind())
        found = list(example.posterior({key: values.numpy() for key, values in given.items()}))
        assert len(found) == len(components)
        for (mean, stddev), component in zip(found, components, strict=True):
            np.testing.assert_allclose(mean, component.mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(stddev, component.stddev, rtol=1e-5)
    mean, draws = example.answer({"flags": both["flags"].numpy()}, "a`<b>|", n=6)
    assert mean.shape == (2, 3)
    assert draws.shape == (6, 2)
    given = {key: values.numpy() for key, values in both.items()}
    one = np.mean([example.answer(given, "a`<b>|", n=1, seed=seed)[0] for seed in range(300)], 0)
    many = example.answer(given, "a`<b>|", n=3000)[0]
    np.testing.assert_allclose(one, many, atol=0.06)  # each component is drawn equally often, even with few draws
    nothing = run(tmp_path, example.PARTS["a`<b>|"]["encoder"], x=np.array([-1]))
    assert not np.any(nothing)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"name": "mmvae_plus", "latents": 4, "private": 1}},
            "shared and private latents.* use it in Python",
        ),
        ({"model": {"name": "cvae", "condition": "a`<b>|"}}, "take its condition besides z, .*mvae.load"),
        ({"covariates": {"site": {"categories": ["a", "b"]}}}, "conditioned on site, .*train it without covariates"),
    ],
)
def test_models_that_cannot_be_exported_are_refused_with_a_remedy(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = Config.from_dict(SMALL | changes)
    with pytest.raises(QueryError, match=message):
        export_model(build(config), config, tmp_path, {})


def test_the_graphs_of_sentences_match_the_model(tmp_path: Path) -> None:
    """Networks as in translation, with a softmax divided into frequent and rare words."""
    config = Config.from_dict(WITH_SENTENCE)
    model = build(config).eval()
    words = ["</s>", "<unk>", *"abcdefghij"]
    described = export_model(model, config, tmp_path, {"layout": {"columns": [{"name": "en", "classes": words}]}})
    assert described["left_out"] == []
    assert described["modalities"][0]["words"] == words
    for rows in (1, 40):
        assert_same_answers(model, tmp_path, rows)
    example = module_at(tmp_path / "example.py")
    mean, draws = example.answer({"en": [[3, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0]]}, "en", n=5)
    assert mean is None
    assert draws.shape == (5, 2, 6)


def test_a_run_is_exported_with_its_card(tmp_path: Path) -> None:
    run_dir, folder, g = tmp_path / "run", tmp_path / "out", np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", a=g.integers(0, 3, 80), b=g.integers(0, 2, 80))
    train = "train", tmp_path / "t.npz", "--epochs", 1, "--run-dir", run_dir, "--device", "cpu", "--json"
    assert command(*train).code == 0
    result = command("export", run_dir, folder, "--json")
    graphs = {f"{what}-{number}.onnx" for what in ("encoder", "decoder") for number in (0, 1)}
    assert set(result.json()["files"]) == {"README.md", "model.json", "model.mvae", "example.py", *graphs}
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mvae\n")
    assert "`pip install numpy onnxruntime`, then `python example.py`" in card
    for part in ("## Data", "## Intended use", "## Metrics", "## Limits", "| objective |"):
        assert part in card
    done = subprocess.run([sys.executable, folder / "example.py"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("b, given a: mean and draws\n[[")
    assert_refused(command("export", tmp_path, folder), "not a run directory")
    (folder / "my-decoder-1.onnx").write_text("mine")
    again = command("export", run_dir, folder, "--format", "torch", "--json")  # an earlier export is replaced
    programs = {name.replace(".onnx", ".pt2") for name in graphs}
    assert set(again.json()["files"]) == {"README.md", "model.json", "model.mvae", "my-decoder-1.onnx", *programs}
    (folder / "decoder-7.pt2").write_text("of an earlier model with more modalities")
    assert command("export", run_dir, folder, "--format", "torch").code == 0
    assert not (folder / "decoder-7.pt2").exists()
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("mine")
    assert_refused(command("export", run_dir, project), "has README.md, not from an earlier export")
    assert [file.name for file in project.iterdir()] == ["README.md"]
    (project / "README.md").rename(project / "decoder-0.onnx")  # not an export: nothing is removed
    assert command("export", run_dir, project, "--format", "torch").code == 0
    assert (project / "decoder-0.onnx").read_text() == "mine"


def test_names_in_the_card_are_escaped() -> None:
    from mvae.export.card import model_card

    part = {"name": "a|<script>", "kind": "real", "shape": [1], "columns": ["*x*"]}
    described = {
        "model": "MVAE",
        "latents": 2,
        "graphs": "onnx",
        "posterior": "…",
        "left_out": [],
        "modalities": [part],
    }
    card = model_card(described, {}, {})
    assert "<script>" not in card
    assert "a\\|&lt;script&gt;" in card


def test_means_of_counts_with_an_exposure_refer_to_the_typical_total(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(5, (60, 4))
    np.savez(tmp_path / "cells.npz", rna=counts)
    declared = {
        "data": {"source": str(tmp_path / "cells.npz")},
        "model": {"latents": 2},
        "modalities": {"rna": {"kind": "count", "likelihood": {"name": "poisson", "exposure": True}}},
        "training": {"epochs": 1},
    }
    trained, _ = mvae.train(Config.from_dict(declared), tmp_path / "run", callbacks=[])
    assert command("export", tmp_path / "run", tmp_path / "out").code == 0
    (part,) = read_json(tmp_path / "out/model.json")["modalities"]
    totals = np.asarray(trained.data.train["rna"]).sum(1)
    assert part["typical_total"] == np.quantile(totals, 0.5, method="lower")
    (mean,) = run(tmp_path / "out", part["decoder"], z=np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(mean.sum(1), part["typical_total"], rtol=1e-5)
