"""Build the emulated twin of the extension: csrc/cuda compiled with g++ through this folder.

The twin holds the schemas, and the CUDA kernels registered as those of the CPU. See README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = [HERE / name for name in ("fiber.cpp", "block.cpp", "shared.cpp", "launch.cpp")]
COMMON = (
    *("-std=c++20", "-g", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-parameter"),
)
SCHEDULES = ("fwd", "rev", "rand:1")  # of CUSIM_SCHED, as far as tests go
# For kernels, and for the runtime: that is never instrumented, only told about it. Little is
# optimized in kernels that run for a moment only and take a sanitizer long to compile.
SANITIZERS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "none": (("-O2",), ("-O2",)),
    "address": (
        ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        ("-O2", "-DCUSIM_ADDRESS"),
    ),
    "thread": (("-O1", "-fsanitize=thread"), ("-O2", "-DCUSIM_THREAD")),
}


@dataclass
class Build:
    """Compiles into a folder what has changed since.

    Args:
        root: the checkout whose csrc is compiled.
        out: the folder of objects and results.
        sanitize: a key of SANITIZERS.
    """

    root: Path
    out: Path
    sanitize: str = "none"

    def twin(self) -> Path:
        """Build `_C.abi3.so` with the emulated kernels, for the torch of this Python."""
        import torch
        from torch.utils import cpp_extension

        flags = ["-DTORCH_TARGET_VERSION=0x020B000000000000"]  # as in setup.py
        for include in (*cpp_extension.include_paths(), sysconfig.get_path("include")):
            flags += ["-isystem", include]
        bindings = sorted((self.root / "csrc/cuda").glob("*bindings*.cpp"))
        objects = [
            *self.compile([*RUNTIME, *self.kernels()]),
            *self.compile([self.root / "csrc/ops.cpp"], flags),
            *self.compile([self.root / "csrc/sinkhorn_loss.cpp"], flags),
            *self.compile(bindings, [*flags, "-include", str(HERE / "bindings.h")]),
        ]
        libraries = str(Path(torch.__file__).parent / "lib")
        search = ("-L", libraries, f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch", "-ltorch_cpu")
        return self.link("_C.abi3.so", objects, ["-shared", "-Wl,-Bsymbolic", *search])

    def program(self, name: str, sources: Iterable[Path]) -> Path:
        """Build a stand-alone program of sources that launch kernels."""
        return self.link(name, self.compile([*RUNTIME, *sources]))

    def kernels(self) -> list[Path]:
        return sorted((self.root / "csrc/cuda").glob("*.cu"))

    def compile(self, sources: Iterable[Path], flags: Sequence[str] = ()) -> list[Path]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda source: self.compile_one(source, flags), sources))

    def compile_one(self, source: Path, flags: Sequence[str]) -> Path:
        include = ("-I", str(HERE / "include"), "-I", str(self.root / "csrc"))
        sanitize = SANITIZERS[self.sanitize][source in RUNTIME]
        command = ["g++", *COMMON, *sanitize, *include, *flags, "-x", "c++", "-c", str(source)]
        tag = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
        target = self.out / f"{source.stem}-{tag}.o"
        if not up_to_date(target):
            self.out.mkdir(parents=True, exist_ok=True)
            run([*command, "-MD", "-MF", str(target.with_suffix(".d"))], target)
        return target

    def link(self, name: str, objects: Sequence[Path], flags: Sequence[str] = ()) -> Path:
        target = self.out / name
        if not target.exists() or target.stat().st_mtime < max(o.stat().st_mtime for o in objects):
            sanitize = SANITIZERS[self.sanitize][0]
            run(["g++", *sanitize, *map(str, objects), *flags, "-pthread"], target)
        return target


def up_to_date(target: Path) -> bool:
    """Whether an object is newer than every file that its compilation read."""
    listing = target.with_suffix(".d")
    if not (target.exists() and listing.exists()):
        return False
    _, _, names = listing.read_text().partition(":")
    files = [Path(name) for name in names.replace("\\\n", " ").split()]
    made = target.stat().st_mtime
    return all(file.exists() and file.stat().st_mtime < made for file in files)


def run(command: Sequence[str], target: Path) -> None:
    """Run a compiler; its result appears at once or not at all."""
    partial = target.with_suffix(f".{os.getpid()}")
    done = subprocess.run([*command, "-o", str(partial)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    sys.stderr.write(done.stderr)  # warnings
    partial.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build emulated CUDA kernels.")
    parser.add_argument("--root", type=Path, default=HERE.parents[1], help="checkout to compile")
    parser.add_argument("--out", type=Path, default=Path("build/emulated"), help="result folder")
    parser.add_argument(
        "--sanitize",
        choices=sorted(SANITIZERS),
        default="none",
        help="none (default) builds _C.abi3.so; address and thread the program of driver.cpp",
    )
    arguments = parser.parse_args()
    build = Build(arguments.root.resolve(), arguments.out.resolve(), arguments.sanitize)
    if arguments.sanitize == "none":
        print(build.twin())
    else:
        print(build.program("driver", [HERE / "driver.cpp", *build.kernels()]))


if __name__ == "__main__":
    main()
