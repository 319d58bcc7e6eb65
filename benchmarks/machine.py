"""Facts about the machine and the build that every report carries. Needs torch alone."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

import rlsv_fast

GPU_FIELDS = {
    "gpu": "name",
    "driver": "driver_version",
    "gpu_memory": "memory.total",
    "sm_clock": "clocks.sm",
    "sm_clock_max": "clocks.max.sm",
    "memory_clock": "clocks.mem",
    "power": "power.draw",
}


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def commit() -> str:
    """What COMMIT says (for a tree without its .git), else git, else "unknown"."""
    if os.environ.get("COMMIT"):
        return os.environ["COMMIT"]
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def build() -> dict[str, str]:
    """What the build holds; a binary carried to another Python cannot say."""
    try:
        info = rlsv_fast.build_info()
    except ImportError:
        info = dict.fromkeys(("torch", "cuda", "compiler", "simd"), "unknown")
    return {f"build_{key}": value for key, value in info.items()}


def facts() -> dict[str, Any]:
    """Of the software and the CPU."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
        "cores": os.cpu_count(),
        "commit": commit(),
        **build(),
    }


def gpu_facts() -> dict[str, Any]:
    """Of the first GPU, its clocks at this moment included; nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    properties = torch.cuda.get_device_properties(0)
    found: dict[str, Any] = {
        "gpu": properties.name,
        "gpus": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cache_mb": properties.L2_cache_size / 1e6,
        "cuda": torch.version.cuda,
    }
    if shutil.which("nvidia-smi"):
        query = f"--query-gpu={','.join(GPU_FIELDS.values())}"
        done = subprocess.run(
            ["nvidia-smi", "--id=0", query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            values = [value.strip() for value in done.stdout.strip().split(",")]
            found.update(zip(GPU_FIELDS, values, strict=False))
    return found
