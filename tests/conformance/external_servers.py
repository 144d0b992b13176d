"""The servers that recorded cases of External Secrets name, and how a case's seeds reach them."""

from __future__ import annotations

import base64
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization

from drills.sandbox.aws import Aws
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.openbao import OpenBao
from tests.contract.secret_source.servers import free_port, vault_call
from tests.openbao_servers import SealedBao, TlsBao, b64

ENDPOINTS = ("AWS_SECRETSMANAGER_ENDPOINT", "AWS_SSM_ENDPOINT", "AWS_STS_ENDPOINT", "AWS_ECR_ENDPOINT")
"""The variables by which the controller finds the AWS of a case."""
NAMED = frozenset(
    {"vault", "vault_tls", "vault_tls_ca", "sealed_vault", "aws", "closed_port"}
    | {"apiserver", "apiserver_ca", "apiserver_token", "sa_pubkey"}
)
"""The placeholders that are filled in."""


_WHOLE_TIME = len("2026-01-01T00:00:00.123456789Z")


@dataclass
class Servers:
    """Everything that stands outside the cluster, and the cluster as a stranger sees it."""

    control_plane: ControlPlane
    bao: OpenBao
    tls: TlsBao
    sealed: SealedBao
    moto: Aws
    closed_port: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    @cached_property
    def words(self) -> Mapping[str, str]:
        """Give what stands in place of each placeholder; the longer names first."""
        pki = self.control_plane.pki
        key = serialization.load_pem_private_key(pki.service_account_key.read_bytes(), None)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {
            "{vault_tls_ca_b64}": b64(self.tls.ca_pem),
            "{vault_tls_ca}": self.tls.ca_pem,
            "{vault_tls}": self.tls.url,
            "{sealed_vault}": self.sealed.url,
            "{vault}": self.bao.url,
            "{aws}": self.moto.url,
            "{closed_port}": self.closed_port,
            "{apiserver_token}": self.control_plane.token,
            "{apiserver_ca}": pki.ca.read_text(),
            "{apiserver}": self.control_plane.server.removeprefix("https://"),
            "{sa_pubkey}": public.decode(),
        }

    def vault(self, method: str, path: str, body: Any, *, tls: bool) -> bool:
        """Call a Vault API as root; whether it was accepted."""
        try:
            if tls:
                self.tls.call(method, path, body)
            else:
                self._vault_as_recorded(method, path, body)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    def _vault_as_recorded(self, method: str, path: str, body: Any) -> None:
        """Call OpenBao; a first version whose time is written short is written anew.

        Go leaves trailing zeros of a fraction out, so one time in ten has fewer characters than the recorded one, and a
        recorded template asks for their number.
        """
        for _ in range(10):
            data = vault_call(self.bao.url, self.bao.token, method, path, body).get("data") or {}
            made = str(data.get("created_time") or "")
            if not (method == "POST" and data.get("version") == 1 and made and len(made) < _WHOLE_TIME):
                return
            vault_call(self.bao.url, self.bao.token, "DELETE", path.replace("/data/", "/metadata/", 1))

    def aws(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Call the emulation in the SDK's naming."""
        client = boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.moto.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        plain = dict(arguments)
        if "SecretBinary" in plain:
            plain["SecretBinary"] = base64.b64decode(plain["SecretBinary"])
        return getattr(client, operation)(**plain)

    def dumped(self, dump: Mapping[str, Any]) -> dict[str, Any]:
        """Give what the stores hold at the end of a case, in the form of `expected.yaml`."""
        found: dict[str, Any] = {}
        for path in dump.get("vault") or []:
            found[f"vault {path}"] = self._vault_dump(path)
        for service, dumper in (("aws_sm", self._secret_dump), ("aws_ssm", self._parameter_dump)):
            for name in dump.get(service) or []:
                try:
                    found[f"{service} {name}"] = dumper(name)
                except ClientError as error:
                    found[f"{service} {name}"] = {"error": error.response["Error"]["Code"]}
        return found

    def _vault_dump(self, path: str) -> dict[str, Any]:
        try:
            answer = vault_call(self.bao.url, self.bao.token, "GET", path.removeprefix("/v1/"))
        except urllib.error.HTTPError as error:
            error.close()
            return {"status": error.code, "data": []}
        return {"status": 200, "data": answer["data"]}

    def _secret_dump(self, name: str) -> dict[str, Any]:
        value = self.aws("secretsmanager", "get_secret_value", {"SecretId": name})
        about = self.aws("secretsmanager", "describe_secret", {"SecretId": name})
        shown: dict[str, Any] = {"tags": about.get("Tags") or []}
        if "SecretBinary" in value:
            shown["SecretBinary"] = base64.b64encode(value["SecretBinary"]).decode()
        if "SecretString" in value:
            shown["SecretString"] = value["SecretString"]
        return shown | ({"Description": about["Description"]} if about.get("Description") else {})

    def _parameter_dump(self, name: str) -> dict[str, Any]:
        value = self.aws("ssm", "get_parameter", {"Name": name, "WithDecryption": True})["Parameter"]
        tags = self.aws("ssm", "list_tags_for_resource", {"ResourceType": "Parameter", "ResourceId": name})["TagList"]
        return {part: value[part] for part in ("Value", "Type", "Version")} | {"tags": tags}
