"""`seal`: Secret in, SealedSecret out. Options, files and exit codes; the work is `sealed.py`'s.

Names and meanings of the options are kubeseal's (v0.38.4), each also from its environment variable
(`SEALED_SECRETS_SCOPE` for `--scope`). `--compat kubeseal` adds the peer's defaults and exit codes.

What never lives here: cluster libraries (doors come in `ctx.obj`), sealing rules.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import InvalidManifest, Refused, SecretsOpsError, UsageError, WorldFailed
from secretsops.files import read_input, write_atomic, write_output
from secretsops.sealing.scope import Scope

if TYPE_CHECKING:
    from secretsops.ports import Doors
    from secretsops.sealing.certificate import Certificate
    from secretsops.sealing.keys import KeyPair

CERTIFICATE_LIMIT = 1024 * 1024
"""Bytes of a certificate answer at most; one is 2 KiB."""
URL_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command line as a value."""

    cert: str
    scope: Scope | None
    name: str
    namespace: str
    secret_file: str
    output_file: str
    output_format: str
    merge_into: str
    from_file: tuple[str, ...]
    allow_empty_data: bool
    controller_name: str
    controller_namespace: str
    kubeconfig: str
    context: str
    recovery_private_key: tuple[str, ...]
    kubeseal: bool

    @property
    def input(self) -> str:
        """Give where the input comes from, `-` for standard input."""
        return self.secret_file or "-"


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Make an option that is also read from kubeseal's environment variable."""
    long = max((name for name in names if name.startswith("--")), key=len)
    return click.option(*names, envvar="SEALED_SECRETS_" + long[2:].replace("-", "_").upper(), **settings)


def _flag(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return _option(*names, is_flag=True, **settings)


@click.command(
    epilog="Example: seal --cert cert.pem --scope namespace-wide < secret.yaml > sealed.yaml",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@_option("--cert", default="", metavar="FILE|URL", help="Certificate to seal with; without it the cluster is asked.")
@_option("--scope", type=click.Choice([scope.value for scope in Scope]), help="How far it may move and still open.")
@_option("--name", default="", help="Name of the SealedSecret; with --raw --scope strict required.")
@_option("--namespace", "-n", default="", help="Namespace, where the Secret names none.")
@_option("--secret-file", "-f", default="", metavar="FILE", help="Input instead of standard input.")
@_option("--sealed-secret-file", "-w", "output_file", default="", metavar="FILE", help="Output file, replaced whole.")
@_option("--format", "-o", "output_format", default="", help="yaml (default) or json.")
@_flag("--allow-empty-data", help="Seal a Secret without data.")
@_flag("--fetch-cert", help="Print the certificate and stop.")
@_flag("--raw", help="Seal one value: that of --from-file or standard input, byte by byte.")
@_option("--from-file", multiple=True, metavar="[KEY=]FILE", help="The value for --raw.")
@_option("--merge-into", default="", metavar="FILE", help="Add the items to an existing SealedSecret file.")
@_flag("--validate", help="Ask the controller whether it can open a SealedSecret.")
@_flag("--recovery-unseal", help="Open a SealedSecret with private keys and print the Secret.")
@_option("--recovery-private-key", multiple=True, metavar="FILE", help="Key for --recovery-unseal: PEM, Secret, List.")
@_option("--controller-name", default="sealed-secrets-controller", show_default=True, help="Service of the controller.")
@_option("--controller-namespace", default="kube-system", show_default=True, help="Namespace of that Service.")
@_option("--kubeconfig", default="", metavar="FILE", help="Kubeconfig file.")
@_option("--context", default="", help="Context of the kubeconfig.")
@click.option("--compat", type=click.Choice(["kubeseal"]), help="Behave as the peer: JSON by default, its exit codes.")
@click.option("--version", is_flag=True, help="Print the version.")
@click.argument("ignored", nargs=-1, metavar="")
@click.pass_obj
def seal(doors: Doors, /, *, compat: str | None, version: bool, ignored: tuple[str, ...], **options: Any) -> int | None:
    """Turn a Secret into a SealedSecret that is safe to commit."""
    kubeseal = compat == "kubeseal"
    modes = {mode: options.pop(mode) for mode in ("fetch_cert", "raw", "validate", "recovery_unseal")}
    scope = options.pop("scope")
    keys = tuple(path for text in options.pop("recovery_private_key") for path in text.split(","))
    request = Request(scope=Scope(scope) if scope else None, recovery_private_key=keys, kubeseal=kubeseal, **options)
    try:
        if version:
            _version(request)
            return None
        if ignored and not kubeseal:
            raise UsageError(
                f"unexpected argument {ignored[0]!r}", reason="UnexpectedArgument", hint="name the input with -f FILE"
            )
        _act(request, modes, doors)
    except SecretsOpsError as error:
        if not kubeseal:
            raise
        # Compat: the peer's one line and its exit code, 1 for everything but a wrong flag.
        click.echo(f"error: {error.message}", err=True)
        return 1
    return None


def _act(request: Request, modes: Mapping[str, bool], doors: Doors) -> None:
    """Carry out the one mode that was asked for, in kubeseal's order of precedence."""
    if request.from_file and not modes["raw"]:
        raise UsageError("--from-file needs --raw", reason="RawMissing", hint="add --raw")
    _format(request)
    if modes["recovery_unseal"]:
        _recover(request)
    elif modes["validate"]:
        _validate(request, doors)
    elif modes["fetch_cert"]:
        write_output(_certificate(request, doors).pem)
    elif request.merge_into:
        _merge_into(request, doors)
    elif modes["raw"]:
        _raw(request, doors)
    else:
        _seal(request, doors)


# --- modes ---------------------------------------------------------------------------------------------


def _seal(request: Request, doors: Doors) -> None:
    """Seal every Secret of the input; nothing is written unless all of them were."""
    _refuse_same_file(request)
    certificate = _certificate(request, doors)
    _emit(request, _sealed_documents(request, certificate))


def _sealed_documents(request: Request, certificate: Certificate) -> list[dict[str, Any]]:
    from secretsops.manifest import load_values
    from secretsops.sealing.sealed import Wishes, seal_secret

    wishes = Wishes(
        name=request.name,
        namespace=request.namespace,
        scope=request.scope,
        allow_empty=request.allow_empty_data,
        any_kind=request.kubeseal,
    )
    source = request.secret_file or "standard input"
    values = list(load_values(read_input(request.input), source=source))
    sealed: list[dict[str, Any]] = []
    for number, value in enumerate(values, start=1):
        if value is None:
            continue
        where = source if len(values) == 1 else f"{source}, document {number}"
        if not isinstance(value, dict):
            raise InvalidManifest("not a mapping", where=where, reason="NotASecret", hint="give a v1 Secret")
        try:
            sealed.append(
                seal_secret(value, certificate.public, wishes, default_namespace=lambda: _context_namespace(request))
            )
        except InvalidManifest as error:
            raise InvalidManifest(error.problem, where=where, reason=error.reason, hint=error.hint) from None
        except Refused as error:
            raise Refused(f"{where}: {error.message}", reason=error.reason, hint=error.hint) from None
    if not sealed:
        raise InvalidManifest(
            "no Secret in the input", where=source, reason="NoSecrets", hint="give a v1 Secret, UTF-8"
        )
    return sealed


def _raw(request: Request, doors: Doors) -> None:
    from secretsops.sealing.sealed import seal_value
    from secretsops.secret import Plaintext

    if len(request.from_file) > 1:
        raise UsageError("--raw takes only one --from-file", reason="SeveralValues", hint="call seal once per value")
    scope = request.scope or Scope.STRICT
    namespace = request.namespace
    if scope is not Scope.CLUSTER_WIDE and not namespace:
        namespace = _context_namespace(request)
    source = request.from_file[0].rpartition("=")[2] if request.from_file else "-"
    certificate = _certificate(request, doors)
    value = Plaintext(read_input(source))
    text = seal_value(value, certificate.public, scope=scope, namespace=namespace, name=request.name)
    # As kubeseal: no line end, so that the output can be pasted into a file as it is.
    write_output(text.encode())


def _merge_into(request: Request, doors: Doors) -> None:
    """Add the items of the input to an existing file; name, namespace and scope are the file's."""
    from dataclasses import replace

    from secretsops.manifest import load_values
    from secretsops.sealing.sealed import merge

    path = request.merge_into
    existing = [value for value in load_values(read_input(path), source=path) if value is not None]
    if len(existing) != 1 or not isinstance(existing[0], dict) or existing[0].get("kind") != "SealedSecret":
        raise InvalidManifest(
            "not exactly one SealedSecret", where=path, reason="NotOneSealedSecret", hint="merge into a file of its own"
        )
    metadata = existing[0].get("metadata") or {}
    # Compat: kubeseal ignores the file's scope and so adds items that never open; here the file's scope counts.
    scope = Scope.of(metadata.get("annotations") or {})
    if request.scope not in (None, scope):
        raise Refused(
            f"{path} is {scope}, not {request.scope}", reason="ScopeMismatch", hint="drop --scope: the file's counts"
        )
    place = replace(request, scope=scope, name=str(metadata.get("name") or ""), namespace="")
    body = merge(existing[0], _one(_sealed_documents(_placed(place, metadata), _certificate(request, doors))))
    write_atomic(Path(path), _rendered([body], _format(request, path if not request.kubeseal else "")))


def _placed(request: Request, metadata: Mapping[str, Any]) -> Request:
    from dataclasses import replace

    return replace(request, namespace=str(metadata.get("namespace") or ""))


def _one(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if len(documents) != 1:
        raise Refused("--merge-into takes one Secret", reason="SeveralSecrets", hint="call seal once per Secret")
    return documents[0]


def _validate(request: Request, doors: Doors) -> None:
    """Ask the controller about every document; silence means that all of them open."""
    from secretsops.manifest import load_all

    path = _service(request, doors) + "/v1/verify"
    cluster = doors.cluster(_target(request))
    for manifest in load_all(read_input(request.input), source=request.secret_file or "standard input"):
        answer = cluster.raw("POST", path, body=json.dumps(manifest.body).encode(), content_type="application/json")
        if answer.code == 409:
            raise Refused(
                f"unable to decrypt sealed secret: {manifest.name}",
                reason="CannotUnseal",
                hint="sealed for another cluster, namespace, name or scope, or changed since",
            )
        if answer.code != 200:
            raise WorldFailed(f"cannot validate {manifest.name}: the controller answered {answer.code}")


def _recover(request: Request) -> None:
    """Open one SealedSecret with private keys from files; no cluster is asked."""
    from secretsops.manifest import load_all
    from secretsops.sealing.keys import KeyRing
    from secretsops.sealing.sealed import open_sealed

    ring = KeyRing(key for path in request.recovery_private_key for key in _recovery_keys(path))
    documents = load_all(read_input(request.input), source=request.secret_file or "standard input")
    if not documents or documents[0].kind.kind != "SealedSecret":
        raise InvalidManifest("no SealedSecret in the input", reason="NotASealedSecret")
    body = open_sealed(documents[0], ring).secret.body
    _emit(request, [{"kind": "Secret", "apiVersion": "v1"} | body])


def _recovery_keys(path: str) -> list[KeyPair]:
    """Give the keys of a file: a PEM text, or key Secrets as YAML or JSON, a List too."""
    import datetime as dt

    from secretsops.manifest import load_all
    from secretsops.sealing.keys import issue, read_key_secret, read_private_key

    content = read_input(path)
    if b"-----BEGIN" in content:
        epoch = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
        return [issue(read_private_key(content), now=epoch, ttl=dt.timedelta(days=1))]
    return [read_key_secret(manifest.body) for manifest in load_all(content, source=path)]


def _version(request: Request) -> None:
    from secretsops import __version__

    write_output(f"{'kubeseal version: v' if request.kubeseal else 'seal '}{__version__}\n".encode())


# --- certificate ---------------------------------------------------------------------------------------


def _certificate(request: Request, doors: Doors) -> Certificate:
    """Give the certificate to seal with, from file, URL or cluster; an expired one is refused."""
    from secretsops.sealing.certificate import read_certificate

    source = request.cert or "the controller's answer"
    if not request.cert:
        text = _fetch(request, doors)
    elif "://" in request.cert:
        text = _download(request.cert)
    else:
        text = read_input(request.cert)
    try:
        certificate = read_certificate(text)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, where=source, reason=error.reason, hint=error.hint) from None
    certificate.refuse_expired(doors.clock.now())
    return certificate


def _download(url: str) -> bytes:
    if not url.startswith(("https://", "http://", "file://")):
        raise UsageError(f"{url}: only https, http and file URLs", reason="UnknownScheme", hint="name a file instead")
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=URL_TIMEOUT) as answer:  # noqa: S310 -- the schemes are checked above
            content: bytes = answer.read(CERTIFICATE_LIMIT)
    except (URLError, OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise WorldFailed(f"cannot fetch {url}: {cause}", reason="Unreachable", hint="is the address right?") from None
    return content


def _fetch(request: Request, doors: Doors) -> bytes:
    """Fetch the certificate through the API server's service proxy."""
    path = _service(request, doors) + "/v1/cert.pem"
    answer = doors.cluster(_target(request)).raw("GET", path)
    if answer.code != 200:
        raise WorldFailed(
            f"the controller answered {answer.code} for its certificate",
            reason="CertificateUnavailable",
            hint="is it running? --controller-name and --controller-namespace say where; --cert FILE needs no cluster",
        )
    return answer.body


def _service(request: Request, doors: Doors) -> str:
    """Give the proxy path of the controller's Service, port by its name as kubeseal does."""
    from secretsops.errors import NotFound
    from secretsops.manifest import GroupVersionKind

    place = f"{request.controller_namespace}/{request.controller_name}"
    try:
        service = doors.cluster(_target(request)).get(
            GroupVersionKind("", "v1", "Service"), request.controller_name, request.controller_namespace
        )
    except NotFound:
        raise WorldFailed(
            f"there is no Service {place}",
            reason="ControllerNotFound",
            hint="--controller-name and --controller-namespace say where the controller is; --cert FILE needs none",
        ) from None
    ports = service.spec.get("ports") or [{}]
    port = ports[0].get("name") or ports[0].get("port") or ""
    root = f"/api/v1/namespaces/{request.controller_namespace}/services"
    return f"{root}/http:{request.controller_name}:{port}/proxy"


def _target(request: Request) -> Any:
    from secretsops.ports import ClusterTarget

    return ClusterTarget(kubeconfig=request.kubeconfig, context=request.context, user_agent="seal")


def _context_namespace(request: Request) -> str:
    """Give the namespace of the kubeconfig's context, `default` when it names none, "" without any kubeconfig.

    Read as plain YAML, so that sealing with a local certificate loads no cluster library.
    """
    from secretsops.manifest import load_values

    paths = [request.kubeconfig] if request.kubeconfig else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    if paths == [""]:
        paths = [str(Path.home() / ".kube" / "config")]
    current = request.context
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


def _format(request: Request, path: str = "") -> str:
    """Give `yaml` or `json`: the extension of an output file first, then `-o`, then the default."""
    if (path or request.output_file).endswith((".yaml", ".yml")):
        return "yaml"
    chosen = request.output_format.lower() or ("json" if request.kubeseal else "yaml")
    if chosen not in {"yaml", "json"}:
        raise UsageError(
            f"unsupported output format {chosen[:32]!r}", reason="UnknownFormat", hint="-o yaml or -o json"
        )
    return chosen


def _rendered(documents: list[dict[str, Any]], style: str) -> bytes:
    from secretsops.manifest import dump_all

    if style == "yaml":
        return dump_all(documents).encode()
    return "".join(json.dumps(body, indent=2, ensure_ascii=False) + "\n" for body in documents).encode()


def _emit(request: Request, documents: list[dict[str, Any]]) -> None:
    content = _rendered(documents, _format(request))
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
