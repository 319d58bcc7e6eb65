import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from rlsv_fast.training import keep_freed_memory

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
counts = [faults()]
for _ in range(8):
    torch.ones(20 << 20)
    counts.append(faults())
print(kept, min(b - a for a, b in zip(counts, counts[1:])))
"""


def _run(how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    _, fresh = _run("default")
    kept, again = _run("keep")
    assert kept == "True"
    # of 80 MB: 20,000 pages of 4 KB, or 40 of 2 MB
    assert int(fresh) > 20
    assert int(again) < 10
