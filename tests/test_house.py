"""The shape of the house, as facts CI checks: spines and ribs, exports, help, lazy imports, the README's commands.

Sizes are printed, never judged: a file past 500 lines or a function past 60 wants a reason in review, not a trick.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import grimp
import pytest

import secretsops
from secretsops.cli import COMMANDS, _umbrella

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("secretsops", "recovery", "controllers", "drills")
BIN = Path(sys.executable).parent

SPINES = {
    "controllers.sealed_secrets": {"secretsops.sealing.sealed", "secretsops.ownership"},
    "controllers.external_secrets": {"secretsops.external.model", "secretsops.external.render"},
    "recovery.sync": {"recovery.argo", "recovery.render", "recovery.plan"},
    "drills.run": {"drills.scenario", "drills.scene", "drills.isolation", "drills.timeline", "drills.report"},
    "secretsops.escrow.backup": {"secretsops.escrow.bundle", "secretsops.escrow.index"},
}
"""Each use case is one spine that imports its ribs directly (house rule; read one file, see the whole line)."""

RIBS = (
    {"secretsops.sealing.sealed", "secretsops.external.render", "secretsops.external.select", "secretsops.ownership"},
    {"recovery.argo", "recovery.render", "recovery.diff", "recovery.health", "recovery.order"},
    {"drills.scenario", "drills.compare", "drills.report", "drills.display"},
    {"drills.acts.estates", "drills.acts.recovery", "drills.faults.clusters", "drills.checks.clusters"},
    {"secretsops.escrow.bundle", "secretsops.adapters.age", "secretsops.adapters.sinks"},
)
"""Ribs of one line: none imports another, they meet in their spine and share only nouns."""

VENDORS = ("kubernetes", "boto3", "botocore", "hvac", "git", "pyrage", "rich", "urllib3", "requests", "moto")


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES)


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("spine", SPINES)
def test_a_spine_imports_its_ribs_directly(spine: str) -> None:
    """A reader of the spine reaches every rib in one step."""
    imported = _graph().find_modules_directly_imported_by(spine)
    assert SPINES[spine] - imported == set()


@pytest.mark.parametrize("ribs", RIBS, ids=min)
def test_no_rib_imports_another(ribs: set[str]) -> None:
    """Ribs return values to their spine and never call each other."""
    edges = {(rib, other) for rib in ribs for other in _graph().find_modules_directly_imported_by(rib) & ribs}
    assert edges == set()


def test_the_public_api_is_what_all_says() -> None:
    """`__all__` of the public package equals its public names."""
    public = {
        name
        for name, value in vars(secretsops).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("secretsops.")
    }
    assert public == {name for name in secretsops.__all__ if name != "__version__"}
    assert sorted(secretsops.__all__, key=str) == sorted(set(secretsops.__all__), key=str)


def test_the_version_is_said_once() -> None:
    """The package and the project file name the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert secretsops.__version__ == project["project"]["version"]


def test_the_lock_names_no_index_and_pins_by_hash() -> None:
    """The lock file installs the same bytes anywhere."""
    lock = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"(?m)^(?:--index-url|--extra-index-url|--find-links|-i )", lock) == []
    assert [name for name in re.findall(r"(?m)^([\w.-]+==[^\n]*)$", lock) if not name.endswith("\\")] == []


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _commands(child, f"{path} {name}")


def test_every_command_has_help_with_an_example() -> None:
    """`--help` of every command explains it and shows an example."""
    lacking = [
        path
        for path, command in _commands(_umbrella, "secretsops")
        if not (command.help and "Example" in f"{command.epilog or ''}{command.help}")
    ]
    assert lacking == []


def test_the_table_of_commands_repeats_their_first_line() -> None:
    """The umbrella lists commands without importing them; its words are those of the commands."""
    for name, (target, summary) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert command.help.strip().splitlines()[0] == summary, name


def _modules_after(arguments: list[str], stdin: bytes = b"") -> set[str]:
    program = (
        "import sys; from secretsops.cli import seal\n"
        f"sys.argv = ['seal', *{arguments!r}]\n"
        "try: seal()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=stdin, capture_output=True, check=True)
    return {line.partition(".")[0] for line in done.stderr.decode().splitlines()}


def test_seal_help_imports_no_vendor() -> None:
    """`seal --help` loads no cluster, cloud or Git library."""
    assert _modules_after(["--help"]) & set(VENDORS) == set()


def test_seal_with_a_local_certificate_imports_no_vendor() -> None:
    """`seal --cert FILE` seals without loading a cluster, cloud or Git library."""
    certificate = ROOT / "tests/conformance/corpus/sealed-secrets/keys/alpha/tls.crt"
    secret = b"apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {key: value}\n"
    assert _modules_after(["--cert", str(certificate)], secret) & set(VENDORS) == set()


def test_sizes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Print files past 500 lines and functions past 60; a number to look at in review."""
    rows = []
    for path in _sources():
        text = path.read_text()
        if (lines := text.count("\n")) > 500:
            rows.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (length := (node.end_lineno or 0) - node.lineno + 1) > 60:
                rows.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    with capsys.disabled():
        print("\n  larger than expected:", *(rows or ["nothing"]), sep="\n    ")


def test_the_readme_counts_the_deviations() -> None:
    """Gaps and deliberate differences are as many as the front page says."""
    tables = tomllib.loads((ROOT / "tests/conformance/known_gaps.toml").read_text())
    said = f"{len(tables['gap'])} gaps, {len(tables['better'])} better on purpose"
    assert said in (ROOT / "README.md").read_text()


BLOCK = re.compile(r"(?:<!-- ([^>]*) -->\n)?```console\n(.*?)```", re.DOTALL)


def _readme_blocks() -> list[tuple[str, str]]:
    """Give (note, text) of each console block of the front page; a note `run elsewhere: …` says which test runs it."""
    return [(note, text) for note, text in BLOCK.findall((ROOT / "README.md").read_text())]


def test_readme_blocks_run(tmp_path: Path) -> None:
    """Each command of the README's console blocks gives the output shown (`...` stands for any text)."""
    path = f"{BIN}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path), "KUBECONFIG": "/dev/null"}
    ran = 0
    for note, text in _readme_blocks():
        if note.startswith("run elsewhere"):
            continue
        for step in re.split(r"(?m)^\$ ", text)[1:]:
            command, _, expected = step.replace("\\\n", "").partition("\n")
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
            assert re.fullmatch(pattern, (done.stdout + done.stderr).strip(), re.DOTALL), (
                f"{shlex.quote(command)} printed:\n{done.stdout}{done.stderr}"
            )
            ran += 1
    assert ran > 0
