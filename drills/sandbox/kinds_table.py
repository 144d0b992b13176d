"""Makes `embedded/kinds.json`: what a real API server says of its built-in kinds, without the prose.

    secretsops sandbox up --detach --part cluster
    python -m drills.sandbox.kinds_table KUBECONFIG "$(go env GOMODCACHE)"

Discovery gives names, verbs and subresources; OpenAPI v2 gives types, merge keys and list types, OpenAPI v3 the
defaults, the `generated.proto` files of the Go modules the numbers of fields. Run it when the pinned control plane
changes. Never here: anything that runs in a sandbox.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drills.sandbox.embedded.discovery import VERSION

TABLE = Path(__file__).with_name("embedded") / "kinds.json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
SUBRESOURCES = ("status", "scale", "token", "finalize", "eviction", "binding", "approval")
_TYPES = {"string": "s", "integer": "i", "number": "n", "boolean": "b", "array": "a", "object": "o"}

Ask = Callable[[str, str], Any]


def ask_with(kubeconfig: Path) -> Ask:
    """Give what asks the API server of a sandbox's kubeconfig."""
    content = json.loads(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def ask(path: str, accept: str = "application/json") -> Any:
        headers = {"Authorization": f"Bearer {user['token']}", "Accept": accept}
        request = urllib.request.Request(cluster["server"] + path, headers=headers)  # noqa: S310 -- a sandbox's
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    return ask


_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s+(?:(optional|repeated|required) )?(map<string, ?)?([.\w]+)>? (\w+) = (\d+);", re.MULTILINE)
_SCALARS = {"string": "s", "bytes": "y", "int32": "i", "int64": "i", "uint32": "u", "bool": "b", "double": "d"}


def wire_of(modules: Path) -> dict[str, dict[str, list[str]]]:
    """Give, by OpenAPI name, field number to (JSON name, type, "" or `list` or `map`), read from `generated.proto`."""
    found: dict[str, dict[str, list[str]]] = {}
    minor = f"@v0.{VERSION.split('.')[1]}.{VERSION.split('.')[2]}"
    for module in ("api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"):
        for file in sorted((modules / "k8s.io" / f"{module}{minor}").rglob("generated.proto")):
            text = file.read_text()
            package = _opened(re.search(r"^package ([\w.]+);", text, re.MULTILINE)[1])  # type: ignore[index]
            for name, content in _MESSAGE.findall(text):
                fields = {}
                for label, many, kind, field, number in _FIELD.findall(content):
                    sort = _SCALARS.get(kind) or (_opened(kind[1:]) if kind.startswith(".") else f"{package}.{kind}")
                    fields[number] = [field, sort, "map" if many else "list" if label == "repeated" else ""]
                found[f"{package}.{name}"] = fields
    return found


def _opened(package: str) -> str:
    """Give OpenAPI's name for a protobuf package or message: `k8s.io.api…` is `io.k8s.api…` there."""
    return package.replace("k8s.io.", "io.k8s.", 1).replace("_", "-")


def make(ask: Ask, wire: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """Give the table: `resources` as rows, `definitions` by the name OpenAPI has for them."""
    kinds, resources = [], []
    for path in ("/api", "/apis"):
        for group in ask(path, AGGREGATED)["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                for found in version["resources"]:
                    resources.append(_resource(name, version["version"], found))
                    kinds.append((name, version["version"], resources[-1]["kind"]))
    shapes = ask("/openapi/v2", "application/json")["definitions"]
    defaults: dict[str, Any] = {}
    for path in ask("/openapi/v3", "application/json")["paths"]:
        if path.startswith(("api/v1", "apis/")) and path.count("/") >= 1:
            defaults |= ask(f"/openapi/v3/{path}", "application/json").get("components", {}).get("schemas", {})
    roots = {}
    for name, shape in shapes.items():
        for gvk in shape.get("x-kubernetes-group-version-kind", []):
            if (gvk["group"], gvk["version"], gvk["kind"]) in kinds:
                roots[f"{gvk['group']}/{gvk['version']}/{gvk['kind']}"] = name
    definitions: dict[str, Any] = {}
    wanted = sorted({*roots.values()})
    while wanted:
        name = wanted.pop()
        if name not in definitions:
            definitions[name] = _definition(shapes[name], defaults.get(name, {}), wanted)
            if wire.get(name):
                definitions[name]["w"] = wire[name]
                known = definitions[name].get("p", {})
                # A message that JSON does not have is one whose fields stand in its owner's place.
                wanted += [sort for field, sort, _ in wire[name].values() if field not in known and sort in shapes]
    return {"resources": resources, "roots": roots, "definitions": dict(sorted(definitions.items()))}


def _resource(group: str, version: str, found: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": found["responseKind"].get("group") or group,
        "version": version,
        "kind": found["responseKind"]["kind"],
        "plural": found["resource"],
        "singular": found["singularResource"],
        "namespaced": found["scope"] == "Namespaced",
        "verbs": found["verbs"],
    }
    if found.get("shortNames"):
        row["short"] = found["shortNames"]
    if found.get("categories"):
        row["categories"] = found["categories"]
    below = [each["subresource"] for each in found.get("subresources", []) if each["subresource"] in SUBRESOURCES]
    if below:
        row["subresources"] = below
    return row


def _definition(shape: dict[str, Any], other: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Shorten one definition; `other` is the same of OpenAPI v3, which has the defaults."""
    node = _node(shape, {}, wanted)
    for field in sorted(shape.get("properties", {})):
        described = shape["properties"][field]
        node.setdefault("p", {})[field] = _node(described, other.get("properties", {}).get(field, {}), wanted)
    if shape.get("required"):
        node["r"] = shape["required"]
    return node


def _node(shape: dict[str, Any], other: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    node: dict[str, Any] = {}
    if "$ref" in shape:
        node["ref"] = shape["$ref"].rpartition("/")[2]
        wanted.append(node["ref"])
    elif shape.get("format") == "int-or-string":
        node["t"] = "x"
    elif "type" in shape:
        node["t"] = _TYPES[shape["type"]]
    if "items" in shape:
        node["i"] = _node(shape["items"], other.get("items", {}), wanted)
    if "additionalProperties" in shape:
        node["a"] = _node(shape["additionalProperties"], {}, wanted)
    for name, short in (
        ("x-kubernetes-list-type", "l"),
        ("x-kubernetes-list-map-keys", "k"),
        ("x-kubernetes-map-type", "m"),
        ("x-kubernetes-patch-merge-key", "mk"),
        ("x-kubernetes-patch-strategy", "ps"),
    ):
        if name in shape:
            node[short] = shape[name]
    if other.get("default") == {}:
        node["z"] = 1  # a struct by value: Go always has it, and writes it
    elif other.get("default") not in (None, "", 0):  # zero values are what Go has anyway
        node["d"] = other["default"]
    return node


def main() -> None:
    """Write the table, one definition a line."""
    table = make(ask_with(Path(sys.argv[1])), wire_of(Path(sys.argv[2])))
    lines = []
    for part, rows in table.items():
        if isinstance(rows, list):
            text = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
            lines.append(f"{json.dumps(part)}: [\n{text}\n]")
        else:
            text = ",\n".join(
                f"{json.dumps(name)}: {json.dumps(row, sort_keys=True, separators=(',', ':'))}"
                for name, row in rows.items()
            )
            lines.append(f"{json.dumps(part)}: {{\n{text}\n}}")
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
