"""The published package: the wheel contains every file, trains without the source, and is typed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")
ROOT = Path(__file__).parents[1]
USER = '''\
"""A user's program."""

import torch

import mvae
from mvae.networks.mlp import LabelEncoder, mlp

table = mvae.Table({"labs": torch.randn(50, 3), "sick": torch.randint(0, 2, (50,))})
parts = {
    "labs": mvae.Modality(mlp(3, 8, [16]), mlp(4, 3, [16]), "gaussian"),
    "sick": mvae.Modality(LabelEncoder(2, 8, 16), mlp(4, 2, [16]), "categorical"),
}
model = mvae.MVAE(parts, latent_dim=4)
mvae.fit(model, table, epochs=1)
risk: torch.Tensor = model.predict({"labs": torch.zeros(1, 3)}, of="sick")
answers: dict[str, torch.Tensor] = model.generate({"sick": [1, 0]}, of=["labs"], n=4)
mvae.save(model, "patients.mvae")
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist, built without a network from a copy of the sources."""
    folder = tmp_path_factory.mktemp("package")
    copy = folder / "source"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "_build", ".*")
    shutil.copytree(ROOT / "src", copy / "src", ignore=left_out)
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=left_out)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def python(built: Path) -> Path:
    """The Python of an environment with the wheel, and with this environment's packages except mvae."""
    folder = built.parent / "venv"
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(others))  # the .pth files in there, such as mvae's own, are not read
    return folder / "bin" / "python"


def test_wheel_contains_exactly_the_package_files(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path for path in (ROOT / "src/mvae").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    own = {str(path.relative_to(ROOT / "src")) for path in files}
    assert {"mvae/py.typed", "mvae/report/page.html", "mvae/paper/experiments/digits.toml"} <= own
    assert {name for name in names if ".dist-info/" not in name} == own


def test_sdist_contains_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert needed | {"conftest.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names


@pytest.mark.skipif(os.name == "nt", reason="the path of an environment's Python differs")
def test_wheel_trains_without_the_source(python: Path, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MVAE_DATA")}
    code = "import mvae; print(mvae.__file__)"
    where = subprocess.run([python, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    assert Path(where.stdout.strip()).is_relative_to(python.parents[1])
    command = [python, "-m", "mvae", "train", "digits", "--epochs", "1", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"checkpoint.safetensors", "run.json", "samples.png"} <= {
        p.name for p in (tmp_path / "runs/digits").iterdir()
    }


def test_user_program_passes_strict_type_checks(python: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    pyright = [sys.executable, "-m", "pyright", "--pythonpath", str(python), "user.py"]
    for code, expected in ((USER, "0 errors"), (USER.replace('of="sick"', "of=3"), "1 error,")):
        (tmp_path / "user.py").write_text(code)
        found = subprocess.run(pyright, cwd=tmp_path, capture_output=True, text=True)
        assert expected in found.stdout
