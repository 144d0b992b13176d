"""Recorded behaviour of the Sealed Secrets controller v0.38.4, played on a real API server.

Where we differ on purpose, `ours/sealed-secrets/controller/NAME.yaml` holds what is asserted instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.install import definitions
from secretsops.cli import RealDoors
from secretsops.errors import ApiError
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.sealed import SEALED_SECRET
from tests.conformance.frame import better, folder, folders, root
from tests.conformance.sealing_traces import Trace, comparable

SUITE = root() / "sealed-secrets"
OURS = Path(__file__).resolve().parent / "ours"
FILTER = "test_the_controller_does_as_recorded["


@cache
def _case(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SUITE / "controller" / name / "case.yaml").read_text())
    return found


class _Player:
    """Plays every trace a test of this session asks for, side by side, once."""

    def __init__(self, cluster: Cluster, names: Iterable[str]) -> None:
        self._pool = ThreadPoolExecutor(6)
        # The garbage collector learns of new kinds every 30 seconds: cases that need it come last.
        in_order = sorted(names, key=lambda name: ("quiet: 4" in str(_case(name)["steps"]), name))
        self._played = {
            name: self._pool.submit(Trace(name, _case(name), SUITE / "keys", cluster).play) for name in in_order
        }

    def result(self, name: str) -> list[dict[str, Any]]:
        return self._played[name].result(400)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def player(request: pytest.FixtureRequest) -> Iterator[_Player]:
    control_plane = request.getfixturevalue("control_plane")
    cluster = RealDoors().cluster(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for manifest in definitions():
        if manifest.spec["group"] == SEALED_SECRET.group:
            cluster.apply(manifest, field_manager="tests", force=True)
    for _ in range(100):
        try:
            cluster.resource(SEALED_SECRET)
            cluster.list(SEALED_SECRET)
            break
        except ApiError:
            time.sleep(0.1)
    chosen = [item.name for item in request.session.items if item.name.startswith(FILTER)]
    found = _Player(cluster, [name.removeprefix(FILTER).removesuffix("]").rpartition("/")[2] for name in chosen])
    yield found
    found.close()


@pytest.mark.e2e
@pytest.mark.parametrize("case_id", folders("sealed-secrets/controller"))
def test_the_controller_does_as_recorded(case_id: str, player: _Player) -> None:
    """The same Secrets, status, events, keys and answers at every observation."""
    source = OURS / f"{case_id}.yaml" if better(case_id) else folder(case_id) / "expected.yaml"
    expected = yaml.safe_load(source.read_text())["observations"]
    assert comparable(expected) == comparable(player.result(case_id.rpartition("/")[2]))
