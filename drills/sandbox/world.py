"""The disposable world as a context manager: clusters, OpenBao, AWS, Git, each started when first asked for.

    with Sandbox(progress=print) as world:
        cluster = world.cluster("a")
        world.openbao().write("shop/db", {"password": "..."})

Demo, drills, tests and `secretsops sandbox` use this one object. Everything listens on loopback, and dies with this
process. Never here: what happens in the world.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from drills.sandbox.aws import Aws
from drills.sandbox.backend import Backend
from drills.sandbox.binaries import Progress, binaries_are_there, find_binaries
from drills.sandbox.charts import ChartServer
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.embedded_cluster import EmbeddedCluster
from drills.sandbox.git_server import GitServer
from drills.sandbox.node_agent import NodeAgent
from drills.sandbox.openbao import OpenBao, RaftOpenBao
from drills.sandbox.processes import Processes
from secretsops.errors import UsageError


class Sandbox:
    """A world in a folder: one of its own that goes with it (also on kill -9), or one given.

    A given folder stays unless `keep` is False: the processes' output and the repositories lie there. `kind` says what
    its clusters are: `real`, `embedded`, or `auto`, which is real where the binaries are there already. In the folder
    `journals`, where given, an embedded cluster goes on from where one of its name was stopped.
    """

    def __init__(
        self,
        folder: Path | None = None,
        progress: Progress | None = None,
        *,
        keep: bool | None = None,
        kind: str = "real",
        journals: Path | None = None,
    ) -> None:
        self._kind = kind
        self._journals = journals
        self.goes = folder is None if keep is None else not keep
        """Whether the folder is deleted when the world is closed."""
        self.folder = folder or Path(tempfile.mkdtemp(prefix="secretsops-sandbox-"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.clusters: dict[str, Backend] = {}
        self._say: Progress = progress or (lambda _: None)
        # One lock each, so that a caller may start the parts at the same time from threads.
        self._locks = {part: threading.RLock() for part in ("processes", "clusters", "openbao", "aws", "git")}
        self._cluster_locks: dict[str, threading.RLock] = {}
        self._processes: Processes | None = None
        self._agents: dict[str, NodeAgent] = {}
        self._openbao: OpenBao | None = None
        self._aws: Aws | None = None
        self._git: GitServer | None = None
        self._charts: ChartServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stand_in(self) -> bool:
        """Whether any cluster of this world is no real one."""
        return any(cluster.stand_in for cluster in self.clusters.values())

    def cluster(self, name: str, *, audit: bool = False, nodes: bool = True, kind: str = "") -> Backend:
        """Give the running cluster of that name, starting it when it is not there (or no more).

        `kind` is `real`, `embedded` or `auto`; empty, what the world was made with.

        Raises:
            WorldFailed: `NoControlPlane` where a real one was asked for and neither binaries nor Go are there; a
                component did not start.
            UsageError: the name is no DNS label.
        """
        if not name or not name.replace("-", "").isalnum() or not name.isascii():
            raise UsageError(f"'{name}' is no name for a cluster", reason="BadName", hint="letters, digits, dashes")
        with self._locks["clusters"]:
            lock = self._cluster_locks.setdefault(name, threading.RLock())
        with lock:
            found = self.clusters.get(name)
            if found is None or not found.running:
                shutil.rmtree(self.folder / "clusters" / name, ignore_errors=True)
                found = self.clusters[name] = self._started(name, kind or self._kind, audit=audit)
            if nodes:
                found.start_nodes()
            return found

    def _started(self, name: str, kind: str, *, audit: bool) -> Backend:
        folder = self.folder / "clusters" / name
        if kind == "auto":
            kind = "real" if binaries_are_there() else "embedded"
        if kind == "embedded":
            self._say(f"starting cluster {name} (the embedded stand-in: no workload runs)")
            journal = self._journals / f"{name}.journal" if self._journals else None
            return EmbeddedCluster(name, folder, self._supervised(), audit=audit, journal=journal)
        binaries = find_binaries(progress=self._say)
        self._say(f"starting cluster {name}")
        return ControlPlane(name, folder, binaries, self._supervised(), audit=audit)

    def pods(self, cluster: Backend, environment: Mapping[str, str] | None = None) -> NodeAgent:
        """Run the cluster's Pods of our own image as processes; `environment` is added to each.

        One agent per cluster; it ends with the cluster.
        """
        with self._locks["clusters"]:
            found = self._agents.get(cluster.name)
            if found is None or found.cluster is not cluster:
                found = NodeAgent(cluster, self._supervised(), environment=environment or {})
                self._agents[cluster.name] = found
            return found

    def openbao(self, *, raft: bool = False) -> OpenBao:
        """Give the running OpenBao; `raft`, when it is first asked for, makes it one that can be lost and restored.

        Raises:
            MissingExtra: it is not installed. WorldFailed: it did not start.
        """
        with self._locks["openbao"]:
            if self._openbao is None:
                self._say("starting OpenBao")
                self._openbao = RaftOpenBao(self._supervised()) if raft else OpenBao(self._supervised())
            return self._openbao

    def aws(self) -> Aws:
        """Give the running AWS emulation.

        Raises:
            MissingExtra: it is not installed. WorldFailed: it did not start.
        """
        with self._locks["aws"]:
            if self._aws is None:
                self._say("starting AWS (moto)")
                self._aws = Aws(self._supervised())
            return self._aws

    def git(self) -> GitServer:
        """Give the running Git server.

        Raises:
            WorldFailed: there is no Git.
        """
        with self._locks["git"]:
            if self._git is None:
                self._git = GitServer(self.folder / "git")
            return self._git

    def charts(self) -> ChartServer:
        """Give the running chart repository."""
        with self._locks["git"]:
            if self._charts is None:
                self._charts = ChartServer(self.folder / "charts")
            return self._charts

    @property
    def supervisor_pid(self) -> int:
        """Give the process id of the supervisor, which dies with this process and everything else with it."""
        return self._supervised().supervisor_pid

    def close(self) -> None:
        """End everything and delete the folder, if it is to go."""
        for cluster in self.clusters.values():
            cluster.destroy()
        if self._git is not None:
            self._git.stop()
        if self._charts is not None:
            self._charts.stop()
        self._charts = None
        if self._processes is not None:
            self._processes.close()
        self.clusters, self._agents, self._git, self._processes = {}, {}, None, None
        self._openbao = self._aws = None
        if self.goes:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _supervised(self) -> Processes:
        with self._locks["processes"]:
            if self._processes is None:
                self._processes = Processes(self.folder / "processes")
                if self.goes:
                    self._processes.remove_at_end(self.folder)
            return self._processes
