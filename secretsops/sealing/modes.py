"""What `seal` itself does, mode by mode, in kubeseal's order of precedence (`cmd/kubeseal/main.go`, v0.38.4).

What never lives here: options (`cli.py`), sealing rules (`sealed.py`), how a file's text changes (`yaml_edit.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import InvalidManifest, Refused, UsageError
from secretsops.files import Spool, open_input, read_input, write_atomic, write_output
from secretsops.sealing.certificates import obtain, obtain_one
from secretsops.sealing.options import Access, CertificateWishes
from secretsops.sealing.scope import PREFIX, Scope

if TYPE_CHECKING:
    from secretsops.ports import Doors
    from secretsops.sealing.bulk import Parts
    from secretsops.sealing.certificate import Certificate
    from secretsops.sealing.chunks import Chunk
    from secretsops.sealing.options import Named
    from secretsops.sealing.reencryption import Reseal

PLACEHOLDER = "{cluster}"
_SEALED_ORDER = ("kind", "apiVersion", "metadata", "spec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command line as a value."""

    certificates: CertificateWishes
    access: Access
    scope: Scope | None = None
    name: str = ""
    namespace: str = ""
    secret_file: str = ""
    output_file: str = ""
    output_format: str = ""
    merge_into: str = ""
    from_file: tuple[str, ...] = ()
    allow_empty_data: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    keep_metadata: bool = False
    hint: bool = True
    stream: bool = False
    keys: tuple[str, ...] = ()
    kubeseal: bool = False

    @property
    def input(self) -> str:
        """Give where the input comes from, `-` for standard input."""
        return self.secret_file or "-"

    @property
    def source(self) -> str:
        """Name the input for people."""
        return self.secret_file or "standard input"


def act(request: Request, modes: Mapping[str, bool], doors: Doors) -> None:
    """Carry out the one mode that was asked for."""
    if request.from_file and not modes["raw"]:
        raise UsageError("--from-file needs --raw", reason="RawMissing", hint="add --raw")
    style(request)
    if modes["recovery_unseal"]:
        _recover(request)
    elif modes["validate"]:
        _validate(request, doors)
    elif modes["re_encrypt"] or modes["rotate"]:
        if modes["rotate"]:
            # Compat: the peer says so on standard output, before the document.
            warn("Flag --rotate has been deprecated, please use --re-encrypt instead")
        _re_encrypt(request, doors)
    elif modes["fetch_cert"]:
        write_output(_one_certificate(request, doors).pem)
    elif request.merge_into:
        _merge_into(request, doors)
    elif modes["raw"]:
        _raw(request, doors)
    else:
        _seal(request, doors)


def warn(text: str) -> None:
    """Say something on standard error."""
    click.echo(text, err=True)


def print_version(*, kubeseal: bool) -> None:
    """Print the version line, the peer's with `kubeseal`."""
    from secretsops import __version__

    write_output(f"{'kubeseal version: v' if kubeseal else 'seal '}{__version__}\n".encode())


# --- sealing -------------------------------------------------------------------------------------------


def _seal(request: Request, doors: Doors) -> None:
    """Seal every Secret of the input; nothing is written unless all of them were."""
    _refuse_same_file(request)
    _tell_terminal(request)
    certificates = obtain(request.certificates, request.access, doors, warn)
    if len(certificates) > 1 and request.output_file and PLACEHOLDER not in request.output_file:
        raise UsageError(
            f"several clusters, one file: {request.output_file}",
            reason="OneFileForAll",
            hint=f"-w 'sealed-{PLACEHOLDER}.yaml' writes one file for each",
        )
    if len(certificates) > 1 and request.stream and not request.output_file:
        raise UsageError(
            "--stream of several clusters needs -w", reason="OneFileForAll", hint=f"-w 'sealed-{PLACEHOLDER}.yaml'"
        )
    with contextlib.ExitStack() as stack:
        spools = [stack.enter_context(contextlib.closing(Spool())) for _ in certificates]
        _fill(request, certificates, spools)


def _fill(request: Request, certificates: Sequence[Named], spools: Sequence[Spool]) -> None:
    """Seal into the spools, or with `--stream` right to standard output, then write what was held back."""
    for parts in _sealed_stream(request, certificates):
        for spool, part in zip(spools, parts, strict=True):
            if request.stream and not request.output_file:
                write_output(part)
            else:
                spool.write(part)
    for (name, _), spool in zip(certificates, spools, strict=True):
        if request.output_file:
            write_atomic(Path(request.output_file.replace(PLACEHOLDER, name) if name else request.output_file), spool)
        else:
            for part in spool:
                write_output(part)


def _sealed_stream(request: Request, certificates: Sequence[Named]) -> Iterator[Parts]:
    """Give the input sealed, piece by piece, a part per certificate.

    Raises:
        InvalidManifest: reason `NoSecrets` where there was none at all.
    """
    from secretsops.sealing.bulk import Progress, sealed
    from secretsops.sealing.chunks import chunks

    wanted = style(request)
    default = _Once(request.access)

    def seal(chunk: Chunk, alone: bool) -> Parts:  # noqa: FBT001 - called by position
        secrets = _secrets_of(request, chunk, alone=alone)
        return [
            _rendered(_sealed(request, secrets, certificate, default), wanted, cluster=name)
            for name, certificate in certificates
        ]

    empty = True
    with open_input(request.input) as (lines, size):
        progress = Progress(size)
        for parts in sealed(chunks(progress.lines(lines)), seal):
            empty = empty and not any(parts)
            yield parts
            progress.show()
        progress.end()
    if empty:
        raise InvalidManifest(
            "no Secret in the input", where=request.source, reason="NoSecrets", hint="give a v1 Secret, UTF-8"
        )


class _Once:
    """The kubeconfig's namespace, looked up at most once, when a Secret first lacks one."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._found: str | None = None

    def __call__(self) -> str:
        if self._found is None:
            self._found = context_namespace(self._access)
        return self._found


def _tell_terminal(request: Request) -> None:
    """Say that we wait for input, where a person would else wonder."""
    import sys

    if not request.secret_file and sys.stdin is not None and sys.stdin.isatty():
        warn("(tty detected: expecting a Secret in YAML or JSON on standard input)")


def _read_secrets(request: Request) -> list[tuple[str, dict[str, Any]]]:
    """Give every document of the input with its place for messages."""
    from secretsops.sealing.chunks import Chunk

    found = _secrets_of(request, Chunk(content=read_input(request.input), document=1, line=1), alone=True)
    if not found:
        raise InvalidManifest(
            "no Secret in the input", where=request.source, reason="NoSecrets", hint="give a v1 Secret, UTF-8"
        )
    return found


def _secrets_of(request: Request, chunk: Chunk, *, alone: bool) -> list[tuple[str, dict[str, Any]]]:
    """Give every document of a piece; Lists are taken apart (not with `--compat`)."""
    from secretsops.manifest import load_values

    found: list[tuple[str, dict[str, Any]]] = []
    values = list(load_values(chunk.content, source=request.source))
    for number, value in enumerate(values, start=chunk.document):
        if value is None:
            continue
        where = request.source if alone and len(values) == 1 else f"{request.source}, document {number}"
        if not isinstance(value, dict):
            raise InvalidManifest("not a mapping", where=where, reason="NotASecret", hint="give a v1 Secret")
        inner = value.get("items")
        if not request.kubeseal and value.get("kind") in ("List", "SecretList") and isinstance(inner, list) and inner:
            for position, item in enumerate(inner, start=1):
                if not isinstance(item, dict):
                    raise InvalidManifest("not a mapping", where=f"{where}, item {position}", reason="NotASecret")
                found.append((f"{where}, item {position}", {"apiVersion": "v1", "kind": "Secret", **item}))
        else:
            found.append((where, value))
    return found


def _sealed(
    request: Request,
    secrets: Sequence[tuple[str, Mapping[str, Any]]],
    certificate: Certificate,
    default_namespace: Callable[[], str],
) -> list[dict[str, Any]]:
    from secretsops.sealing.own_metadata import decorated
    from secretsops.sealing.sealed import Wishes, seal_secret

    wishes = Wishes(
        name=request.name,
        namespace=request.namespace,
        scope=request.scope,
        allow_empty=request.allow_empty_data,
        any_kind=request.kubeseal,
    )
    _refuse_scope_annotation(request)
    sealed: list[dict[str, Any]] = []
    for where, value in secrets:
        try:
            body = seal_secret(value, certificate.public, wishes, default_namespace=default_namespace)
        except InvalidManifest as error:
            raise InvalidManifest(error.problem, where=where, reason=error.reason, hint=error.hint) from None
        except Refused as error:
            raise Refused(f"{where}: {error.message}", reason=error.reason, hint=error.hint) from None
        sealed.append(
            decorated(
                body,
                labels=request.labels,
                annotations=request.annotations,
                keep=request.keep_metadata,
                fingerprint=certificate.fingerprint if request.hint else "",
            )
        )
    return sealed


def _refuse_scope_annotation(request: Request) -> None:
    if wrong := [key for key in request.annotations if key in (PREFIX + "cluster-wide", PREFIX + "namespace-wide")]:
        raise UsageError(f"--annotation {wrong[0]} would not fit the ciphertext", reason="Scope", hint="use --scope")


def _raw(request: Request, doors: Doors) -> None:
    from secretsops.sealing.sealed import seal_value
    from secretsops.secret import Plaintext

    if len(request.from_file) > 1:
        raise UsageError("--raw takes only one --from-file", reason="SeveralValues", hint="call seal once per value")
    scope = request.scope or Scope.STRICT
    namespace = request.namespace
    if scope is not Scope.CLUSTER_WIDE and not namespace:
        namespace = context_namespace(request.access)
    source = request.from_file[0].rpartition("=")[2] if request.from_file else "-"
    certificate = _one_certificate(request, doors)
    value = Plaintext(read_input(source))
    text = seal_value(value, certificate.public, scope=scope, namespace=namespace, name=request.name)
    # As kubeseal: no line end, so that the output can be pasted into a file as it is.
    write_output(text.encode())


def _merge_into(request: Request, doors: Doors) -> None:
    """Add the items of the input to an existing file; name, namespace and scope are the file's."""
    from secretsops.sealing.sealed_file import merge_changes, sealed_secrets, the_one
    from secretsops.sealing.yaml_edit import edit

    path = request.merge_into
    content = read_input(path)
    existing = the_one(sealed_secrets(content, source=path), source=path)
    # Compat: kubeseal ignores the file's scope and so adds items that never open; here the file's scope counts.
    scope = existing.scope
    if request.scope not in (None, scope):
        raise Refused(
            f"{path} is {scope}, not {request.scope}", reason="ScopeMismatch", hint="drop --scope: the file's counts"
        )
    place = replace(
        request,
        scope=scope,
        name=existing.manifest.name,
        namespace=existing.manifest.namespace,
        labels={},
        annotations={},
    )
    certificate = _one_certificate(request, doors)
    secrets = _read_secrets(place)
    if len(secrets) != 1:
        raise Refused("--merge-into takes one Secret", reason="SeveralSecrets", hint="call seal once per Secret")
    [addition] = _sealed(replace(place, hint=False), secrets, certificate, _Once(request.access))
    tree = merge_changes(existing, addition, certificate.fingerprint, hint=request.hint)
    edited = edit(content, {existing.document: tree}, source=path)
    if request.kubeseal and (style(request), _style_of(content)) != ("yaml", "yaml"):
        # Compat: the peer writes the format of -o, JSON by default, even into a .yaml file.
        edited = _rendered([_ordered(one.manifest.body) for one in sealed_secrets(edited, source=path)], style(request))
    elif request.kubeseal:
        edited = _with_marker(edited)
    write_atomic(Path(path), edited)


# --- the controller, and in its place ------------------------------------------------------------------


def _validate(request: Request, doors: Doors) -> None:
    """Ask the controller about every document; silence means that all of them open."""
    from secretsops.manifest import load_all
    from secretsops.sealing.service import Controller

    controller = Controller(request.access, doors)
    for manifest in load_all(read_input(request.input), source=request.source):
        controller.verify(manifest)


def _re_encrypt(request: Request, doors: Doors) -> None:
    """Seal every SealedSecret of the input anew; with `-f` and without `-w` in the file itself."""
    from secretsops.sealing.sealed_file import item_changes, sealed_secrets
    from secretsops.sealing.yaml_edit import edit

    content = read_input(request.input)
    found = sealed_secrets(content, source=request.source)
    if not found:
        raise InvalidManifest("no SealedSecret in the input", where=request.source, reason="NotASealedSecret")
    renew = _resealer(request, doors)
    changes = {}
    for one in found:
        items, keys = renew(one)
        changes[one.document] = item_changes(one, items, keys, hint=request.hint)
    edited = edit(content, changes, source=request.source)
    if request.kubeseal and _style_of(edited) == "yaml":
        edited = _with_marker(edited)
    if request.secret_file and not request.output_file:
        write_atomic(Path(request.secret_file), edited)
        return
    wanted = style(request)
    if request.kubeseal or request.output_format or wanted != _style_of(content):
        edited = _rendered([_ordered(one.manifest.body) for one in sealed_secrets(edited, source="")], wanted)
    if request.output_file:
        write_atomic(Path(request.output_file), edited)
    else:
        write_output(edited)


def _resealer(request: Request, doors: Doors) -> Reseal:
    """Give what seals the items of an object anew.

    With private keys nobody is asked but for the certificate; without, the controller does both.
    """
    from secretsops.sealing.reencryption import by_controller, by_keys

    if request.keys:
        from secretsops.sealing.offline import key_ring, newest_certificate

        ring = key_ring(request.keys)
        if request.certificates.sources:
            certificate = _one_certificate(request, doors)
        else:
            certificate = newest_certificate(ring, doors.clock.now())
        return by_keys(ring, certificate)
    if request.certificates.sources:
        raise UsageError(
            "--re-encrypt with --cert needs private keys: only they open what is sealed",
            reason="KeysMissing",
            hint="add --recovery-private-key FILE, or drop --cert and let the controller do it",
        )
    from secretsops.sealing.service import Controller

    controller = Controller(request.access, doors)
    fingerprint = controller.certificate().fingerprint if request.hint else ""
    return by_controller(controller.rotate, fingerprint, trust_hints=False)


def _recover(request: Request) -> None:
    """Open one SealedSecret with private keys from files; no cluster is asked."""
    from secretsops.manifest import load_all
    from secretsops.sealing.offline import key_ring
    from secretsops.sealing.sealed import open_sealed
    from secretsops.sealing.sealed_with import SealedWith

    ring = key_ring(request.keys)
    documents = load_all(read_input(request.input), source=request.source)
    if not documents or documents[0].kind.kind != "SealedSecret":
        raise InvalidManifest("no SealedSecret in the input", reason="NotASealedSecret")
    hint = SealedWith.read(documents[0].annotations)
    body = open_sealed(documents[0], ring, first=hint.fingerprints).secret.body
    _emit(request, [{"kind": "Secret", "apiVersion": "v1"} | body])


def _one_certificate(request: Request, doors: Doors) -> Certificate:
    return obtain_one(request.certificates, request.access, doors, warn)


def context_namespace(access: Access) -> str:
    """Give the namespace of the kubeconfig's context, `default` when it names none, "" without any kubeconfig.

    Read as plain YAML, so that sealing with a local certificate loads no cluster library.
    """
    from secretsops.manifest import load_values

    paths = [access.kubeconfig] if access.kubeconfig else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    if paths == [""]:
        paths = [str(Path.home() / ".kube" / "config")]
    current = access.context
    contexts: dict[str, Any] = {}
    for path in paths:
        if not path or not Path(path).is_file():
            continue
        for value in load_values(read_input(path), source=path):
            if not isinstance(value, dict):
                continue
            current = current or str(value.get("current-context") or "")
            for entry in value.get("contexts") or []:
                if isinstance(entry, dict):
                    contexts.setdefault(str(entry.get("name")), entry.get("context") or {})
    if not contexts:
        return ""
    return str((contexts.get(current) or {}).get("namespace") or "default")


# --- output --------------------------------------------------------------------------------------------


def style(request: Request, path: str = "") -> str:
    """Give `yaml` or `json`: the extension of an output file first, then `-o`, then the default."""
    if (path or request.output_file).endswith((".yaml", ".yml")):
        return "yaml"
    chosen = request.output_format.lower() or ("json" if request.kubeseal else "yaml")
    if chosen not in {"yaml", "json"}:
        raise UsageError(
            f"unsupported output format {chosen[:32]!r}", reason="UnknownFormat", hint="-o yaml or -o json"
        )
    return chosen


def _style_of(content: bytes) -> str:
    return "json" if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "yaml"


def _with_marker(content: bytes) -> bytes:
    """Give YAML beginning with `---`, as everything the peer writes does."""
    return content if content.startswith((b"---", b"%", b"\xef\xbb\xbf")) else b"---\n" + content


def _ordered(body: dict[str, Any]) -> dict[str, Any]:
    """Give a SealedSecret in the peer's key order, without status."""
    kept = {key: body[key] for key in _SEALED_ORDER if key in body} | body
    kept.pop("status", None)
    return kept


def _rendered(documents: list[dict[str, Any]], wanted: str, *, cluster: str = "") -> bytes:
    from secretsops.manifest import dump

    if wanted == "yaml":
        head = f"---\n# cluster: {cluster}\n" if cluster else "---\n"
        return "".join(head + dump(body) for body in documents).encode()
    import json

    return "".join(json.dumps(body, indent=2, ensure_ascii=False) + "\n" for body in documents).encode()


def _emit(request: Request, documents: list[dict[str, Any]]) -> None:
    content = _rendered(documents, style(request))
    if request.output_file:
        write_atomic(Path(request.output_file), content)
    else:
        write_output(content)


def _refuse_same_file(request: Request) -> None:
    """Refuse to write the SealedSecret over the Secret it was made of: the only plaintext copy would be gone."""
    if not (request.secret_file and request.output_file):
        return
    source, target = Path(request.secret_file), Path(request.output_file)
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(
            f"{target} is the input; the Secret would be lost", reason="InputIsOutput", hint="choose another -w FILE"
        )
