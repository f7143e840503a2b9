"""Where a record was made: device, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
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


def git_commit() -> str:
    """Return the commit of the source that runs, with "+" after it where files were changed.

    A copy without git's files is asked for it in the environment variable WRNN_COMMIT.
    """
    command = ["git", "-C", Path(__file__).parents[2]]  # both packages
    try:
        head = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*command, "status", "--porcelain", "--", "."],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("WRNN_COMMIT") or "unknown"
    return head + "+" * bool(changed)
