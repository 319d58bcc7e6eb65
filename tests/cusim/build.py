"""Build the emulated twin of the extension: csrc/cuda compiled with g++ through this folder.

    python tests/cusim/build.py --out build/emulated
    RLSV_FAST_EMULATED=build/emulated/_C.abi3.so python -m pytest tests -k cpu --capture=sys

The twin holds the schemas, and the CUDA kernels registered under the CPU key; see README.md here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = ("fiber.cpp", "block.cpp", "shared.cpp", "launch.cpp")
WARNINGS = ("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-parameter")
SANITIZERS = {
    "none": ((), ()),
    "address": (
        ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
        ("-DCUSIM_ADDRESS",),
    ),
    "thread": (("-fsanitize=thread",), ("-DCUSIM_THREAD",)),
}


@dataclass
class Build:
    """Compiles into one folder; an object is made again when a source or header is newer.

    Args:
        root: the checkout whose csrc is compiled.
        out: the folder of objects and results.
        sanitize: a key of SANITIZERS.
    """

    root: Path
    out: Path
    sanitize: str = "none"
    optimize: str = "-O2"
    newest_header: float = field(init=False)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        headers = [
            path
            for folder in (self.root / "csrc", HERE)
            for path in folder.rglob("*")
            if path.suffix in (".h", ".cuh", ".py")
        ]
        self.newest_header = max(path.stat().st_mtime for path in headers)

    def compile(self, source: Path, flags: Sequence[str] = (), *, runtime: bool = False) -> Path:
        """Return the object of a source; the runtime is never sanitized, only told about it."""
        instrument, define = SANITIZERS[self.sanitize]
        command = [
            *("g++", "-std=c++20", "-g", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
            *(self.optimize, *WARNINGS, *(define if runtime else instrument), *flags),
            *("-I", str(HERE / "include"), "-I", str(self.root / "csrc")),
            *("-x", "c++", "-c", str(source)),
        ]
        tag = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
        target = self.out / f"{source.stem}-{tag}.o"
        newest = max(self.newest_header, source.stat().st_mtime)
        if not target.exists() or target.stat().st_mtime < newest:
            partial = target.with_suffix(f".{os.getpid()}")
            run([*command, "-o", str(partial)])
            partial.replace(target)
        return target

    def link(self, name: str, objects: Sequence[Path], flags: Sequence[str] = ()) -> Path:
        target = self.out / name
        if not target.exists() or target.stat().st_mtime < max(o.stat().st_mtime for o in objects):
            partial = target.with_suffix(f".{os.getpid()}")
            instrument, _ = SANITIZERS[self.sanitize]
            run(["g++", *instrument, *map(str, objects), *flags, "-pthread", "-o", str(partial)])
            partial.replace(target)
        return target

    def runtime(self) -> list[tuple[Path, Sequence[str], bool]]:
        return [(HERE / name, (), True) for name in RUNTIME]

    def kernels(self) -> list[tuple[Path, Sequence[str], bool]]:
        sources = sorted((self.root / "csrc/cuda").glob("*.cu"))
        return [(source, (), False) for source in sources]

    def compile_all(self, sources: Sequence[tuple[Path, Sequence[str], bool]]) -> list[Path]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda one: self.compile(one[0], one[1], runtime=one[2]), sources))

    def twin(self) -> Path:
        """Build `_C.abi3.so` with the emulated kernels for the torch of this Python."""
        import sysconfig

        import torch
        from torch.utils import cpp_extension

        assert self.sanitize == "none", "Python does not run under sanitizers"
        flags = ["-DTORCH_TARGET_VERSION=0x020B000000000000", "-DPy_LIMITED_API=0x030A0000"]
        for include in (*cpp_extension.include_paths(), sysconfig.get_path("include")):
            flags += ["-isystem", include]
        bindings = [*flags, "-include", str(HERE / "bindings.h")]
        objects = self.compile_all(
            [
                *self.runtime(),
                *self.kernels(),
                (self.root / "csrc/ops.cpp", flags, False),
                *(
                    (source, bindings, False)
                    for source in sorted((self.root / "csrc/cuda").glob("*bindings*.cpp"))
                ),
            ]
        )
        libraries = str(Path(torch.__file__).parent / "lib")
        return self.link(
            "_C.abi3.so",
            objects,
            [
                *("-shared", "-Wl,-Bsymbolic", "-L", libraries, f"-Wl,-rpath,{libraries}"),
                *("-lc10", "-ltorch", "-ltorch_cpu"),
            ],
        )

    def program(self, name: str, sources: Sequence[Path], flags: Sequence[str] = ()) -> Path:
        """Build a stand-alone program from sources and the runtime."""
        rest = [(source, flags, False) for source in sources]
        return self.link(name, self.compile_all([*self.runtime(), *rest]))


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    sys.stderr.write(done.stderr)  # warnings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=HERE.parents[1], help="checkout to compile")
    parser.add_argument("--out", type=Path, default=Path("build/emulated"), help="result folder")
    parser.add_argument("--sanitize", choices=sorted(SANITIZERS), default="none")
    arguments = parser.parse_args()
    build = Build(arguments.root.resolve(), arguments.out.resolve(), arguments.sanitize)
    if arguments.sanitize == "none":
        print(build.twin())
    else:
        print(build.program("driver", [HERE / "driver.cpp", *(s for s, _, _ in build.kernels())]))


if __name__ == "__main__":
    main()
