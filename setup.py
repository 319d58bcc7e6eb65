"""Build the two extension modules: `_C` (operators, stable ABI) and `_host` (pybind11).

RLSV_FAST_CUDA = auto (default) | 1 | 0 decides whether the CUDA kernels are compiled in:
auto when this torch has CUDA and a toolkit is found, 1 even against a CPU-only torch (for
compile checks and for carrying the binary to a GPU machine), 0 never.
MAX_JOBS limits parallel compilation, TORCH_CUDA_ARCH_LIST chooses the GPU architectures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup

# The oldest libtorch that the binary loads under: 2.11, one byte major, one byte minor.
TARGET_TORCH = "0x020B000000000000"
DEFAULT_ARCHITECTURES = "7.5;8.0;8.6;9.0+PTX"


def find_toolkit() -> Path | None:
    """Return the first folder that holds both nvcc and the runtime's header.

    nvcc on PATH may be a wrapper script outside the toolkit, hence the test for both.
    """
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    if nvcc:
        candidates.append(str(Path(nvcc).resolve().parent.parent))
    candidates.append("/usr/local/cuda")
    for candidate in filter(None, candidates):
        home = Path(candidate)
        if (home / "bin/nvcc").is_file() and (home / "include/cuda_runtime.h").is_file():
            return home
    return None


def toolkit_version(home: Path) -> str:
    """Return the toolkit's release, such as "13.0"."""
    text = subprocess.run([home / "bin/nvcc", "--version"], capture_output=True, text=True).stdout
    match = re.search(r"release (\d+\.\d+)", text)
    return match.group(1) if match else "unknown"


def choose_cuda(torch_cuda: str | None) -> Path | None:
    """Return the toolkit to build the CUDA kernels with, or None for a CPU build."""
    wanted = os.environ.get("RLSV_FAST_CUDA", "auto").lower()
    if wanted not in ("auto", "0", "1"):
        sys.exit(f"setup.py: RLSV_FAST_CUDA must be auto, 0 or 1, got '{wanted}'.")
    if wanted == "0" or (wanted == "auto" and torch_cuda is None):
        return None
    home = find_toolkit()
    if home is None:
        if wanted == "1":
            sys.exit(
                "setup.py: RLSV_FAST_CUDA=1, but no CUDA toolkit (nvcc and cuda_runtime.h) was "
                "found. Set CUDA_HOME to its folder, or RLSV_FAST_CUDA=0 for a CPU build."
            )
        print("setup.py: no CUDA toolkit found, building without CUDA kernels (set CUDA_HOME).")
        return None
    release = toolkit_version(home)
    if torch_cuda and release.split(".")[0] != torch_cuda.split(".")[0]:
        sys.exit(
            f"setup.py: this torch is built for CUDA {torch_cuda}, the toolkit in {home} is "
            f"{release}. Point CUDA_HOME to a toolkit of the same major version, or set "
            "RLSV_FAST_CUDA=0."
        )
    return home


try:
    import torch
except ModuleNotFoundError:
    sys.exit(
        "setup.py: rlsv_fast compiles against the torch that it will run with, and none is "
        "installed. Install torch, then run: pip install --no-build-isolation -e ."
    )

cuda_home = choose_cuda(torch.version.cuda)
if cuda_home:
    os.environ["CUDA_HOME"] = str(cuda_home)  # before cpp_extension reads it
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)

from torch.utils import cpp_extension  # noqa: E402

if cuda_home:
    cpp_extension.CUDA_HOME = str(cuda_home)  # a CPU-only torch leaves it None

sources = sorted(str(path) for path in Path("csrc").glob("cpu/*.cpp"))
compile_args = {
    # -ffp-contract=fast is GCC's default outside ISO mode; named here because the kernels'
    # accuracy tests were made with it. Never -march=native: binaries travel.
    "cxx": [
        "-O3",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-ffp-contract=fast",
    ],
    "nvcc": ["-O3", "-lineinfo"],
}
link: dict[str, list[str]] = {}
macros = [("TORCH_TARGET_VERSION", TARGET_TORCH)]
cuda = "none"
if cuda_home:
    cuda = f"{toolkit_version(cuda_home)} for {os.environ['TORCH_CUDA_ARCH_LIST']}"
    sources += sorted(
        str(path) for path in Path("csrc/cuda").iterdir() if path.suffix in (".cpp", ".cu")
    )
    macros.append(("RLSV_FAST_CUDA", "1"))
    if re.match(r"1[3-9]\.", toolkit_version(cuda_home)):
        # A fifth of the size; every driver that CUDA 13 runs with can unpack it.
        compile_args["nvcc"].append("--compress-mode=size")
    # Static runtime and no libtorch_cuda: the same file loads under a CPU-only torch.
    link = {
        "library_dirs": [str(cuda_home / "lib64")],
        "libraries": ["cudart_static", "rt", "dl", "pthread"],
    }
    include = [str(cuda_home / "include")]
else:
    include = []
print(f"setup.py: rlsv_fast with torch {torch.__version__}, CUDA kernels: {cuda}")

setup(
    ext_modules=[
        cpp_extension.CppExtension(
            "rlsv_fast._C",
            ["csrc/ops.cpp", "csrc/sinkhorn_loss.cpp", *sources],
            include_dirs=[str(Path("csrc").resolve()), *include],
            define_macros=macros,
            extra_compile_args=compile_args,
            py_limited_api=True,
            **link,
        ),
        cpp_extension.CppExtension(
            "rlsv_fast._host",
            ["csrc/host.cpp"],
            include_dirs=[str(Path("csrc").resolve())],
            define_macros=[
                ("RLSV_FAST_CUDA_BUILD", f'"{cuda}"'),
                ("RLSV_FAST_TORCH_BUILD", f'"{torch.__version__}"'),
            ],
            extra_compile_args={"cxx": ["-O2", "-fvisibility=hidden"]},
        ),
    ],
    cmdclass={"build_ext": cpp_extension.BuildExtension},
)
