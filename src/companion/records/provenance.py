"""Where a record was made: device, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

import wrnn
from wrnn.lazy import torch


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.split(':', 1)[1].strip()}"
    return f"CPU: {platform.processor() or platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "wrnn": wrnn.__version__,
    }


@cache
def git_commit() -> str:
    """Return the commit of the source that runs, with "+" after it where files were changed.

    It is asked for once in a process, since later commits are not what the process runs. A copy
    that git does not track is asked for it in the environment variable WRNN_COMMIT.
    """

    def git(*arguments: str | Path) -> str:
        command = ["git", "-C", Path(__file__).parents[2], *arguments]  # both packages
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__))  # else the repository is another one
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("WRNN_COMMIT") or "unknown"
