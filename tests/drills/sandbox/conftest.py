"""What the sandbox's own tests share: a cluster whose node agent runs `small_server.py` in place of our controller."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drills.sandbox.node_agent import NodeAgent
from drills.sandbox.processes import Processes
from drills.sandbox.world import Sandbox

SMALL_SERVER = Path(__file__).with_name("small_server.py")


@pytest.fixture(scope="module")
def agent(control_plane_binaries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeAgent]:
    """Give the node agent of a cluster of its own."""
    folder = tmp_path_factory.mktemp("agent")
    with Sandbox(folder / "world") as world, Processes(folder / "pods") as processes:
        cluster = world.cluster("agent")
        yield NodeAgent(
            cluster, processes, environment={"FROM_CLOUD": "yes"}, command=(sys.executable, str(SMALL_SERVER))
        )


def wait(true: Callable[[], bool], what: str, *, seconds: float = 30) -> None:
    """Fail the test when something does not become true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@pytest.fixture(name="wait")
def wait_fixture() -> Callable[..., None]:
    """Give `wait`: test modules are not importable by name in importlib mode."""
    return wait
