"""The provenance of a result: the commit of this code, the hardware, the date."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["circumstances", "commit", "describe_device", "installed_version"]


def installed_version() -> str:
    """The version of this library; "unknown" where it runs from a folder that was never installed."""
    try:
        return version("mvae")
    except PackageNotFoundError:
        return "unknown"


def circumstances(device: "torch.device") -> dict[str, str]:
    """The commit, device and date of this process, as stored in a row of results."""
    return {"commit": commit(), "device": describe_device(device), "date": datetime.now(UTC).date().isoformat()}


def describe_device(device: "torch.device") -> str:
    """A description of the hardware."""
    import torch  # imported here because `installed_version` does not need it

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({_processor()}), {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """The short commit of the checkout this code runs from (followed by + if it has changes), else the version."""
    package = Path(__file__).parent  # this file is at the root of the package, so that all its changes count

    def git(*words: str) -> str:
        words = ("git", "-C", str(package), *words)
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails if installed, perhaps inside another checkout
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"mvae {installed_version()}"
