import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import devstack.servers

# A machine that stands still for a moment is no finding.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

FIXTURES = Path(__file__).parent / "fixtures"
pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted(FIXTURES.glob("[a-z]*.py"))]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_configure() -> None:
    """Two workers choose ports from two halves, or what is free for one is taken by the other at once."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        low, high = devstack.servers._PORTS  # noqa: SLF001
        half, number = (high - low) // 2, int(worker.removeprefix("gw")) % 2
        devstack.servers._PORTS = (low + number * half, low + (number + 1) * half)  # noqa: SLF001


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with few long tests first, so that neither of two workers waits long for the other."""
    items.sort(key=lambda item: not {"faults", "e2e"} & set(item.path.parts))
