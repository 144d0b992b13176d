"""AWS as far as secrets go: the moto server as a process of its own, on loopback.

It comes with the extra `demo`. Values go in by plain HTTP. Never here: an AWS library.
"""

from __future__ import annotations

import importlib.util
import json
import sys

from drills.sandbox.loopback import answers, send
from drills.sandbox.processes import Processes, start_on_a_port
from secretsops.errors import MissingExtra, StoreRefused

_READY = 60.0
"""Seconds: importing moto takes 0.5 to 1.4 s alone."""


class Aws:
    """A running emulation. It accepts any credential; the pair here has the form of a real one."""

    region = "eu-central-1"
    access_key = "AKIASANDBOX000000000"
    secret_key = "sandbox-emulation-has-no-secret-key-0000"  # noqa: S105

    def __init__(self, processes: Processes) -> None:
        """Start it and wait until it answers.

        Raises:
            MissingExtra: moto is not installed.
            WorldFailed: it did not start.
        """
        if importlib.util.find_spec("moto") is None:
            raise MissingExtra("demo", needed_for="AWS in the sandbox")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
        self.process, port = start_on_a_port(
            lambda port: processes.start("aws", [*command, str(port)]),
            lambda port: answers(f"http://127.0.0.1:{port}/moto-api/"),
            seconds=_READY,
            interval=0.1,
        )
        self.url = f"http://127.0.0.1:{port}"

    def put_secret(self, name: str, text: str) -> None:
        """Create the secret, or give it a new version.

        Raises:
            StoreRefused: the emulation said no.
        """
        status, answer = self._call("CreateSecret", {"Name": name, "SecretString": text})
        if status == 400 and b"ResourceExistsException" in answer:
            status, _ = self._call("PutSecretValue", {"SecretId": name, "SecretString": text})
        if status >= 300:
            raise StoreRefused(f"Secrets Manager answered {status} for {name}", reason="Invalid")

    def delete_secret(self, name: str) -> None:
        """Delete the secret at once, without a recovery window; one that is not there is gone already.

        Raises:
            StoreRefused: the emulation said no.
        """
        status, _ = self._call("DeleteSecret", {"SecretId": name, "ForceDeleteWithoutRecovery": True})
        if status >= 300:
            raise StoreRefused(f"Secrets Manager answered {status} for {name}", reason="Invalid")

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        self.process.stop(5)

    def _call(self, operation: str, arguments: dict[str, object]) -> tuple[int, bytes]:
        scope = f"{self.access_key}/20260101/{self.region}/secretsmanager/aws4_request"
        headers = {
            "X-Amz-Target": f"secretsmanager.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
            # moto reads service and region from here and checks no signature.
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        return send("POST", self.url, headers=headers, body=json.dumps(arguments).encode())
