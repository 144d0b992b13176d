"""The process in which strangers' templates run: Helm charts and Jsonnet, one JSON request a line; or one program.

Started by `rendering.py` with an empty environment. Before the first byte of a request is read it gives up the network
(an empty network namespace, where the kernel lets it), core dumps, and all but a fixed amount of memory, processor
time and file size. It opens no file that a request names: charts and sources come as bytes.

    python -I render_worker.py serve              requests on stdin, answers on stdout
    python -I render_worker.py run PROGRAM ARGS   give up the same, then become PROGRAM
"""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import re
import resource
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MEMORY = 4 * 1024**3
"""Bytes of address space: Go's runtime reserves much more than it uses (a render resides in 70 MB)."""
DATA = 1024**3
"""Bytes of memory that is really used."""
CPU_SECONDS = 600
"""Processor seconds of one worker's whole life; one render has a deadline of its own in the parent."""
FILE_SIZE = 64 * 1024 * 1024
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000


def confine() -> None:
    """Give up network, core dumps and most of memory and time. What the kernel refuses is left as it is."""
    for limit, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_DATA, DATA),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _, hard = resource.getrlimit(limit)
        allowed = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        try:
            resource.setrlimit(limit, (allowed, allowed))
        except (ValueError, OSError):  # macOS knows some of these by name only
            continue
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None:
        unshare(_NEW_USER | _NEW_NET)  # refused in some containers: then the closed environment has to do


def serve() -> None:
    """Answer one request after the other until standard input ends."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = {"ok": _VERBS[request["verb"]](request)}
        except _Refused as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": "out of memory"}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


class _Refused(Exception):
    """The template or its values are wrong; the text is for people and holds no value of the values."""


def _files(request: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: base64.b64decode(content) for name, content in request["files"].items()}


# --- Helm ----------------------------------------------------------------------------------------------


def _helm(request: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give CRDs and rendered templates as `{name, text}`; notes and tests are left out where asked."""
    import helm_python
    from helm_python import _native

    try:
        with helm_python.Chart.load_archive(_archive(_files(request))) as chart:
            values = _values(helm_python, request)
            options = {"name": request["release"], "namespace": request["namespace"], "is_install": True}
            if request["kube_version"]:
                options["kube_version"] = request["kube_version"]
            if request["api_versions"]:
                options["api_versions"] = request["api_versions"]
            if request["check_schema"]:
                chart.validate_schema(values)
            rendered = json.loads(
                _native.call_string("helm_render", chart._raw(), json.dumps(values), json.dumps(options))  # noqa: SLF001
            )
            found = []
            if request["crds"]:
                found += [{"name": crd["filename"], "text": crd["data"]} for crd in chart.crds]
            found += [{"name": name, "text": rendered[name]} for name in sorted(rendered) if _is_manifest(name)]
            return found
    except helm_python.HelmError as error:
        raise _Refused(_without_values(str(error))) from None


def _is_manifest(name: str) -> bool:
    return not name.endswith("NOTES.txt") and not name.rpartition("/")[2].startswith("_")


_PLACE = re.compile(r"[\w./-]+\.\w+:\d+(?::\d+)?")
_SAID = re.compile(
    r"nil pointer evaluating [\w.{}*]+"
    r"|function \"\w+\" not defined"
    r"|wrong number of args for \w+[\w ,:]*"
    r"|template \"[\w./-]+\" not defined"
    r"|no template \"[\w./-]+\""
    r"|map has no entry for key \"[\w./-]+\""
    r"|can't evaluate field \w+"
    r"|error calling \w+"
    r"|exceeded maximum template depth|rendering template has a nested reference name"
    r"|values don't meet the specifications of the schema"
    r"|found in Chart.yaml, but missing in charts/ directory: [\w ,./-]+"
    r"|chart requires kubeVersion: \S+"
    r"|Chart.yaml file is missing|unexpected \w+ in \w+|unclosed action|invalid chart"
)


def _without_values(text: str) -> str:
    """Keep where, and the phrases that cannot carry a value: Go quotes what it was given, `fail` says anything."""
    places = dict.fromkeys(_PLACE.findall(text))
    phrases = dict.fromkeys(_SAID.findall(text))
    return f"{', '.join(phrases) or 'its author or the engine refused'}{' at ' if places else ''}{', '.join(places)}"[
        :500
    ]


def _archive(files: Mapping[str, bytes]) -> bytes:
    """Give the chart's folder as the archive that the library reads; nothing touches a disk."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"chart/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _values(helm: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as `helm template` does: documents in order, --set, --set-string, --set-file."""
    merged: dict[str, Any] = {}
    for number, document in enumerate(request["values"], start=1):
        try:
            loaded = helm.values_from_yaml(base64.b64decode(document).decode())
        except (helm.HelmError, UnicodeDecodeError):
            raise _Refused(f"values document {number} is not YAML, or no mapping") from None
        _merge(merged, loaded or {})
    for name, value in request["sets"]:
        _set(merged, name, helm.parse_set_string(f"v={value}").get("v"))
    for name, value in request["set_strings"]:
        _set(merged, name, helm.parse_set_string_values(f"v={value}").get("v"))
    for name, content in request["set_files"]:
        _set(merged, name, base64.b64decode(content).decode("utf-8", "replace"))
    return merged


def _merge(base: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        else:
            base[name] = value


_STEP = re.compile(r"((?:\\.|[^.\[\\])+)|\[(\d{1,5})\]|\.")


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one `a.b[0].c` path, making maps and lists on the way (helm v4 `pkg/strvals`: at most 65536 indexes)."""
    steps: list[str | int] = []
    for found in _STEP.finditer(path):
        if found[2] is not None:
            steps.append(int(found[2]))
        elif found[1] is not None:
            steps.append(re.sub(r"\\(.)", r"\1", found[1]))
    if not steps or not isinstance(steps[0], str):
        raise _Refused("a parameter has no name")
    here: Any = values
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        fresh: Any = value if following is None else [] if isinstance(following, int) else {}
        if isinstance(step, int):
            here.extend([None] * (step + 1 - len(here)))
            inside = here[step]
        else:
            inside = here.get(step)
        keep = following is not None and isinstance(inside, list if isinstance(following, int) else dict)
        if not keep:
            here[step] = fresh
        here = here[step]


# --- Jsonnet -------------------------------------------------------------------------------------------


def _jsonnet(request: Mapping[str, Any]) -> str:
    """Evaluate one file; imports are looked up among the files of the request, beside the importer, then in `libs`."""
    import _gojsonnet

    files = _files(request)

    def load(folder: str, wanted: str) -> tuple[str, bytes]:
        for base in (folder, *request["libs"]):
            path = os.path.normpath(os.path.join(base, wanted))  # noqa: PTH118 - names in a tree, not on a disk
            if path in files:
                return path, files[path]
        raise RuntimeError(f"no file {wanted} in the repository")

    settings: dict[str, Any] = {"ext_vars": {}, "ext_codes": {}, "tla_vars": {}, "tla_codes": {}}
    for kind in ("ext", "tla"):
        for name, value, code in request[kind]:
            settings[f"{kind}_{'codes' if code else 'vars'}"][name] = value
    entry = request["entry"]
    try:
        text = files[entry].decode()
        return str(_gojsonnet.evaluate_snippet(entry, text, import_callback=load, max_stack=500, **settings))
    except (RuntimeError, UnicodeDecodeError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        place = next((match[0] for line in lines if (match := re.search(r"[\w./-]+:\d+:\d+", line))), entry)
        raise _Refused(f"jsonnet failed at {place}") from None


# --- Lua -----------------------------------------------------------------------------------------------

_LUA_MEMORY = 32 * 1024 * 1024
_LUA_STEPS = 20_000_000
"""Instructions of one script: about a second (the peer's limit, `util/lua/lua.go`)."""
_LUA_FRAME = """
local steps, script = ...
local env = {}
for _, name in ipairs({"assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawset", "select",
                       "tonumber", "tostring", "type", "unpack"}) do env[name] = _G[name] end
env.table, env.math = table, math
env.string = {}
for name, value in pairs(string) do if name ~= "dump" then env.string[name] = value end end
env.os = {time = os.time, date = os.date, clock = os.clock, difftime = os.difftime}
local chunk, wrong = loadstring(script, "=health")
if not chunk then return false, "syntax" end
setfenv(chunk, env)
local sethook, load = debug.sethook, loadstring
return function(obj)
  env.obj = obj
  sethook(function() error("it runs too long", 0) end, "", steps)
  local ok, found = pcall(chunk)
  sethook()
  return ok, found
end
"""


def _lua(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Run one health script in a fresh Lua 5.1 without files, programs, modules or Python; give what it returns."""
    from lupa import LuaError, lua51

    lua = lua51.LuaRuntime(
        unpack_returned_tuples=True, register_eval=False, register_builtins=False, max_memory=_LUA_MEMORY
    )
    try:
        ready = lua.execute(_LUA_FRAME, _LUA_STEPS, request["script"])
        if isinstance(ready, tuple):
            raise _Refused("it is not Lua")
        ok, found = ready(_as_lua(lua, request["object"]))
    except (LuaError, MemoryError) as error:
        raise _Refused("it needs too much memory" if isinstance(error, MemoryError) else "it failed") from None
    if not ok:
        # A script may say anything, values of the object included: only the place is kept.
        place = re.search(r"health:(\d+)", str(found))
        late = "it runs too long" if found == "it runs too long" else "it failed"
        raise _Refused(f"{late}{f' at line {place[1]}' if place else ''}")
    if found is None:
        return None
    if lua51.lua_type(found) != "table":
        raise _Refused("it returns something else than a table")
    message = found["message"]
    return {"status": str(found["status"] or ""), "message": "" if message is None else str(message)}


def _as_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({name: _as_lua(lua, inner) for name, inner in value.items() if inner is not None})
    if isinstance(value, list):
        return lua.table_from([_as_lua(lua, inner) for inner in value])
    return value


_VERBS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {"helm": _helm, "jsonnet": _jsonnet, "lua": _lua}


def main(arguments: Sequence[str]) -> None:
    """Serve, or become a program."""
    confine()
    if arguments[0] == "run":
        os.execv(arguments[1], list(arguments[1:]))  # noqa: S606 - no shell; the parent chose the program
    serve()


if __name__ == "__main__":
    main(sys.argv[1:])
