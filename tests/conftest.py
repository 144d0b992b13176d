"""Parts of the real world for tests, each started once per session when a test first asks for it.

A part that is not installed skips the test and says why. Where CI is set and Go (or KUBEBUILDER_ASSETS) is there, a
missing control plane is a failure: a skip would hide half of the suite.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.binaries import find_binaries
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.embedded_cluster import EmbeddedCluster
from drills.sandbox.git_server import GitServer
from drills.sandbox.openbao import OpenBao
from drills.sandbox.world import Sandbox
from secretsops.adapters.rendering import RenderWorkers
from secretsops.errors import MissingExtra, SecretsOpsError, WorldFailed
from tests.live_controller import live_kubeconfig  # noqa: F401 - a fixture for the folders below
from tests.openbao_servers import SealedBao, TlsBao

CONTROL_PLANES = frozenset({"control_plane", "control_plane_with_nodes", "control_plane_binaries"})


# Tests start our commands a thousand times: each module is compiled once, whatever the shell's own taste.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes is the machine's affair: a busy one must not fail a property that holds.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs deaf to Ctrl-C, and children inherit it; some tests end a command that way.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--nightly` runs the long tests as well; `--cluster embedded` runs what needs a cluster on the stand-in."""
    parser.addoption("--nightly", action="store_true", help="run the tests marked nightly as well")
    parser.addoption("--cluster", choices=["real", "embedded"], default="real", help="what `control_plane` is")
    parser.addoption(
        "--tenth", action="store_true", help="run every tenth e2e case of each test function, and no other"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nightly tests out unless asked for; with --tenth nine of ten e2e cases, and all that are none."""
    if config.getoption("--tenth"):
        by_function: dict[str, list[pytest.Item]] = {}
        for item in (each for each in items if each.get_closest_marker("e2e")):
            by_function.setdefault(item.nodeid.partition("[")[0], []).append(item)
        kept = [item for group in by_function.values() for item in group[::10]]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if not config.getoption("--nightly"):
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason="a long run: --nightly"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane before the first test, outside any test's time limit: cold it takes 6 minutes."""
    if session.config.getoption("collectonly") or session.config.getoption("--cluster") == "embedded":
        return
    if any(CONTROL_PLANES & set(getattr(item, "fixturenames", ())) for item in session.items):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        say = reporter.write_line if reporter is not None else (lambda _: None)
        try:
            find_binaries(progress=say)
        except SecretsOpsError as error:
            say(str(error))  # the fixture decides between skip and failure


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Give the session's world; parts start when asked for."""
    with Sandbox() as world:
        yield world


@pytest.fixture(scope="session")
def control_plane_binaries(pytestconfig: pytest.Config) -> None:
    """Skip without a control plane; fail where there must be one. On the stand-in none is needed."""
    if pytestconfig.getoption("--cluster") == "embedded":
        return
    try:
        find_binaries()
    except WorldFailed as error:
        must = os.environ.get("CI") and (shutil.which("go") or os.environ.get("KUBEBUILDER_ASSETS"))
        if must or error.reason != "NoControlPlane":
            pytest.fail(f"{error} ({error.reason}); {error.hint}", pytrace=False)
        pytest.skip(f"{error}; {error.hint}")


@pytest.fixture(scope="session")
def control_plane(
    sandbox: Sandbox, control_plane_binaries: None, pytestconfig: pytest.Config
) -> ControlPlane | EmbeddedCluster:
    """Give the session's cluster: API server with RBAC and audit log, etcd, controller manager; shared by all tests."""
    cluster = sandbox.cluster("tests", audit=True, nodes=False, kind=pytestconfig.getoption("--cluster"))
    assert isinstance(cluster, ControlPlane | EmbeddedCluster)
    return cluster


@pytest.fixture(scope="session")
def control_plane_with_nodes(control_plane: ControlPlane | EmbeddedCluster) -> ControlPlane | EmbeddedCluster:
    """Give the same cluster with scheduler, kwok and a Node, so that workloads become ready."""
    control_plane.start_nodes()
    return control_plane


@pytest.fixture(scope="session")
def embedded_cluster(sandbox: Sandbox) -> EmbeddedCluster:
    """Give the session's stand-in cluster, with a Node."""
    cluster = sandbox.cluster("embedded", audit=True, kind="embedded")
    assert isinstance(cluster, EmbeddedCluster)
    return cluster


@pytest.fixture(scope="session")
def openbao(sandbox: Sandbox) -> OpenBao:
    """Give the session's OpenBao, KV v2 at `secret/`; each test keeps to paths of its own."""
    try:
        return sandbox.openbao()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def openbao_tls(sandbox: Sandbox, openbao: OpenBao) -> TlsBao:
    """Give the session's OpenBao that speaks TLS; each test keeps to mounts of its own."""
    return TlsBao(sandbox._supervised())


@pytest.fixture(scope="session")
def openbao_sealed(sandbox: Sandbox, openbao: OpenBao) -> SealedBao:
    """Give the session's OpenBao that is sealed."""
    return SealedBao(sandbox._supervised())


@pytest.fixture(scope="session")
def moto(sandbox: Sandbox) -> Aws:
    """Give the session's AWS emulation; each test keeps to names of its own."""
    try:
        return sandbox.aws()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def git_server(sandbox: Sandbox) -> GitServer:
    """Give the session's Git server; each test creates a repository of its own."""
    return sandbox.git()


@pytest.fixture(scope="session")
def renderer() -> Iterator[RenderWorkers]:
    """Give the session's rendering of Helm, Kustomize and Jsonnet."""
    workers = RenderWorkers()
    yield workers
    workers.close()
