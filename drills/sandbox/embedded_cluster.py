"""The stand-in cluster: our small API server as one process, for machines with neither Go nor binaries.

Never offered as a place to run workloads; what it leaves out is in the sandbox's README.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from drills.sandbox.api import MERGE
from drills.sandbox.backend import NODE, USERS, Backend, node, write_private
from drills.sandbox.processes import Process, Processes, start_on_a_port
from secretsops.errors import ApiError

_READY = 30.0
_GRACE = 5.0
_PROGRAM = "kube-apiserver"
"""The name under which its process is listed, as of the real one."""


class EmbeddedCluster(Backend):
    """One running stand-in."""

    stand_in = True

    def __init__(
        self, name: str, folder: Path, processes: Processes, *, audit: bool = False, journal: Path | None = None
    ) -> None:
        """Start it and wait until it answers; with a `journal` that exists it goes on from there.

        Raises:
            WorldFailed: it ended or did not become ready; nothing is left running.
        """
        super().__init__(name, folder, processes, audit=audit)
        self._journal = journal
        try:
            self._launch()
        except BaseException:
            self.destroy()
            raise

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        process = self._running.get(_PROGRAM)
        return process is not None and not process.ended.is_set()

    def start_nodes(self) -> None:
        """Make the Node, once."""
        if self.nodes_started:
            return
        api = self.api("kwok")
        try:
            api.call("POST", "/api/v1/nodes", node())
        except ApiError as error:
            if error.code != 409:  # it is there in a journal that is gone on with
                raise
        conditions = [{"type": "Ready", "status": "True", "reason": "SandboxReady", "message": "a node of the sandbox"}]
        status = {**node()["status"], "conditions": conditions, "nodeInfo": {"kubeletVersion": "embedded"}}
        api.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, content_type=MERGE)
        self.nodes_started = True

    def compact(self) -> None:
        """Forget history, so that what starts from before is 410 Gone."""
        self.api().call("POST", "/secretsops/compact", {})

    def stop(self) -> None:
        """Stop it in order."""
        self._act_last()
        for process in self._running.values():
            process.stop(_GRACE)
        self.egress.close()

    def _launch(self) -> None:
        """Start the process; once more on another port when somebody else took the first in between."""
        _, self.port = start_on_a_port(self._started, lambda _: self._api_is_ready(), seconds=_READY, interval=0.02)
        self._kubeconfig("admin", self.kubeconfig)

    def _started(self, port: int) -> Process:
        self.port = port
        told = {
            "port": self.port,
            "certificate": str(self.pki.server),
            "key": str(self.pki.server_key),
            "ca": str(self.pki.ca),
            "serviceAccountKey": str(self.pki.service_account_key),
            "tokens": {self.tokens[part]: user for part, user in USERS.items()},
            "egress": str(self.egress.socket_path),
            "audit": str(self.audit_log) if self.audit_log else "",
            "journal": str(self._journal) if self._journal else "",
        }
        configuration = self.folder / "pki" / "embedded.json"
        write_private(configuration, json.dumps(told))
        # -P: a folder of the same name where the user stands must not be what is run.
        arguments = [sys.executable, "-P", "-m", "drills.sandbox.embedded", str(configuration)]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        self._running[_PROGRAM] = self._processes.start(
            f"{self.name}-{_PROGRAM}",
            arguments,
            environment=environment,
            cwd=self.folder,
            log=self.folder / "kube-apiserver.log",
        )
        return self._running[_PROGRAM]
