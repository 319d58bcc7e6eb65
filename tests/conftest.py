import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from substitute import substitute

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Emulated kernels in place of the compiled ones, and NaN in fresh tensors: tests/cusim/README.md.
EMULATED = substitute()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with a `device` argument run on the CPU, and on CUDA where there is one; with `cuda`,
    there only.
    """
    for name, devices in (("device", ["cpu", "cuda"]), ("cuda", ["cuda"])):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, devices, indirect=True)


def require(device: str) -> str:
    """The device; FAIL_WITHOUT_CUDA=1 turns the skip without a GPU into a failure."""
    if device == "cuda" and not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA is set and no CUDA device is visible")
        pytest.skip("no CUDA device")
    return device


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """The device of a test, "cpu" or "cuda"."""
    return require(request.param)


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> str:
    """The device "cuda", for tests of what only a GPU has."""
    return require(request.param)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from one random state and leaves none behind."""
    state = torch.get_rng_state()
    torch.manual_seed(218)
    yield
    torch.set_rng_state(state)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Development data beside the checkout: real audio and the original's golden numbers."""
    if not SHARED.is_dir():
        pytest.skip("no shared development data beside the checkout")
    return SHARED
