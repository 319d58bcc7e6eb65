"""Build `_C` with sanitizers: the same sources as setup.py's, for the torch of this Python."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET_TORCH = "-DTORCH_TARGET_VERSION=0x020B000000000000"  # as in setup.py
# -O1: loops stay loops, and every instruction set still compiles in minutes. Without frame
# pointers kept, a report's stack ends at the first library that was not instrumented.
COMMON = ("-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-omit-frame-pointer")
SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-fsanitize=thread",),
}
RUNTIMES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}


def sources(root: Path = ROOT) -> list[Path]:
    """What a build without CUDA kernels is made of."""
    return [
        root / "csrc/ops.cpp",
        root / "csrc/sinkhorn_loss.cpp",
        *sorted((root / "csrc/cpu").glob("*.cpp")),
    ]


def build(sanitizer: str, out: Path, root: Path = ROOT) -> Path:
    """Compile what has changed since, link, and return `_C.abi3.so`."""
    import torch
    from torch.utils import cpp_extension

    out.mkdir(parents=True, exist_ok=True)
    flags = [*COMMON, *SANITIZERS[sanitizer], "-ffp-contract=fast", TARGET_TORCH]
    flags += ["-I", str(root / "csrc")]
    for include in (*cpp_extension.include_paths(), sysconfig.get_path("include")):
        flags += ["-isystem", include]
    workers = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        objects = list(pool.map(lambda source: _compile(source, flags, out), sources(root)))
    target = out / "_C.abi3.so"
    libraries = str(Path(torch.__file__).parent / "lib")
    search = ("-L", libraries, f"-Wl,-rpath,{libraries}", "-lc10", "-ltorch", "-ltorch_cpu")
    if not target.exists() or target.stat().st_mtime < max(o.stat().st_mtime for o in objects):
        link = ["g++", "-shared", *SANITIZERS[sanitizer], *map(str, objects), *search]
        _run([*link, "-o", str(target)])
    return target


def environment(sanitizer: str) -> dict[str, str]:
    """What lets an uninstrumented Python load such a library: its runtimes come first.

    Leaks are not looked for, as the interpreter keeps what it has until the end. An allocation that
    no machine can make returns null, which torch turns into an error that operators may raise.
    """
    found = []
    for name in RUNTIMES[sanitizer]:
        command = ["g++", f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        found.append(path)
    options = "halt_on_error=1:exitcode=86"
    if sanitizer == "address":
        options += ":detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1"
    return {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        # not what torch's own loops do: the sanitizer does not see their fork and join
        "TSAN_OPTIONS": options.replace("halt_on_error=1", "halt_on_error=0")
        + ":ignore_noninstrumented_modules=1",
    }


def _compile(source: Path, flags: list[str], out: Path) -> Path:
    tag = hashlib.sha256("\0".join([str(source), *flags]).encode()).hexdigest()[:12]
    target = out / f"{source.stem}-{tag}.o"
    if not _up_to_date(target):
        listing = str(target.with_suffix(".d"))
        _run(["g++", *flags, "-c", str(source), "-MD", "-MF", listing, "-o", str(target)])
    return target


def _up_to_date(target: Path) -> bool:
    """Whether an object is newer than every file that its compilation read."""
    listing = target.with_suffix(".d")
    if not (target.exists() and listing.exists()):
        return False
    names = listing.read_text().partition(":")[2].replace("\\\n", " ").split()
    made = target.stat().st_mtime
    return all(Path(name).exists() and Path(name).stat().st_mtime < made for name in names)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    sys.stderr.write(done.stderr)  # warnings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sanitizer", choices=sorted(SANITIZERS))
    parser.add_argument("--out", type=Path, help="default: build/sanitizers/SANITIZER")
    options = parser.parse_args()
    out = options.out or ROOT / "build/sanitizers" / options.sanitizer
    print(build(options.sanitizer, out))


if __name__ == "__main__":
    main()
