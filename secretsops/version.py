"""`secretsops version`: which version this is, and with --all what it stands on: tools, libraries, schemas.

Never here: deciding anything by a version.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from secretsops import __version__
from secretsops.files import write_output
from secretsops.manifest import dump

LIBRARIES = (
    "cryptography",
    "click",
    "PyYAML",
    "kubernetes",
    "urllib3",
    "boto3",
    "pyrage",
    "rich",
    "moto",
)
TOOLS = {
    "git": ("git", "--version"),
    "kubectl": ("kubectl", "version", "--client"),
    "bao": ("bao", "version"),
    "go": ("go", "version"),
    "age": ("age", "--version"),
}
SCHEMAS = {
    "bitnami.com/v1alpha1": "SealedSecret, as of Sealed Secrets v0.38.4",
    "external-secrets.io/v1": "ExternalSecret, SecretStore, ClusterSecretStore",
    "external-secrets.io/v1beta1": "the same, read and converted by the API server",
    "argoproj.io/v1alpha1": "Application, AppProject, ApplicationSet, as of Argo CD 3.6",
    "secretsops.dev/v1": "Drill, DrillReport, EscrowConfig, EscrowEntry, Trust",
    "secretsops.dev/v2": "EscrowEntry",
}


@click.command(epilog="Example: secretsops version --all -o json")
@click.option("--all", "everything", is_flag=True, help="Also tools, libraries and schemas.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def version(everything: bool, output: str) -> None:  # noqa: FBT001 - a click flag
    """Print the version, and with --all those of tools and schemas."""
    body: dict[str, Any] = {"secretsops": __version__}
    if everything:
        body |= {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": {name: _library(name) for name in LIBRARIES},
            "tools": {name: _tool(command) for name, command in TOOLS.items()},
            "schemas": SCHEMAS,
        }
    if output == "table":
        text = _table(body) if everything else f"secretsops {__version__}\n"
    else:
        text = json.dumps(body, indent=2) + "\n" if output == "json" else dump(body)
    write_output(text.encode())


def _library(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _tool(command: tuple[str, ...]) -> str:
    """Give the first version number a tool says, looked for on PATH and beside our own interpreter."""
    beside = Path(sys.executable).parent / command[0]
    program = shutil.which(command[0]) or (str(beside) if beside.is_file() else "")
    if not program:
        return "not found"
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _table(body: dict[str, Any]) -> str:
    lines = [f"{name:<12} {value}" for name, value in body.items() if isinstance(value, str)]
    for part in ("libraries", "tools", "schemas"):
        lines += [f"{part}:", *(f"  {name:<28} {value}" for name, value in body[part].items())]
    return "\n".join(lines) + "\n"
