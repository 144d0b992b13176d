"""What strangers can hand us, each as one function of bytes: it comes back, or raises an error of ours.

`python -m tests.fuzz` throws millions of inputs at them, `test_corpus.py` those that once led somewhere new. Each
input has a second of its thread's time, and no error may repeat what it was given as a value.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from drills.evidence.chain import read_head, read_link, verify
from drills.evidence.comparison import compare
from drills.evidence.facts import read_facts
from drills.evidence.history import outcomes
from drills.evidence.junit import junit
from drills.evidence.markdown import markdown
from drills.evidence.page import Provenance, page
from drills.evidence.statement import Envelope, read_envelope, read_key
from drills.record import of_report, refuse_unfit, started_record
from secretsops import go_yaml
from secretsops.adapters.age import AgeDoor
from secretsops.errors import SecretsOpsError
from secretsops.escrow import bundle, canonical, proof, receipt
from secretsops.escrow import trust as roots
from secretsops.escrow.attestation import read_attestations
from secretsops.escrow.claim import read_claims
from secretsops.escrow.config import read_config
from secretsops.escrow.index import read_chain, read_entry
from secretsops.escrow.signing import read_public, read_signer, signed_by
from secretsops.manifest import Manifest, dump, load_all, load_values
from secretsops.plain_yaml import read_plain
from secretsops.sealing import envelope as wire
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.chunks import chunks
from secretsops.sealing.keys import KeyRing, read_key_pair, read_key_secret, read_private_key
from secretsops.sealing.lint import Source, lint
from secretsops.sealing.sealed import Wishes, open_sealed, seal_secret
from secretsops.sealing.sealed_file import item_changes, sealed_secrets
from secretsops.sealing.sealed_with import SealedWith
from secretsops.sealing.yaml_edit import edit
from secretsops.secret import Plaintext

CANARY = "canary5b1f"
KEYS = Path(__file__).parents[1] / "conformance/corpus/sealed-secrets/keys"
_KEY, _CERTIFICATE = ((KEYS / "echo2048" / name).read_bytes() for name in ("tls.key", "tls.crt"))
PAIR = read_key_pair(_KEY, _CERTIFICATE)
RING = KeyRing([PAIR])
LABEL = b"shop/db"
SESSION = bytes(range(32))
ITEM = wire.seal_with(Plaintext(CANARY.encode()), label=LABEL, public=PAIR.certificate.public, session_key=SESSION)
WRAPPED = wire.parse(ITEM).wrapped
IDENTITY, _RECIPIENT = AgeDoor().generate()


def refused(act: Callable[[], object]) -> bool:
    """Do something; says whether it was refused, as it should be: with a reason and without a value."""
    try:
        act()
    except SecretsOpsError as error:
        told = error
    else:
        return False
    assert told.reason
    assert CANARY not in f"{told.message} {told.hint} {told.__cause__!r}"
    return True


# --- one sealed item


def envelope(data: bytes) -> None:
    """A sealed item as text, and its inner parts behind a session key that opens."""
    refused(lambda: RING.open(data.decode("latin-1"), label=LABEL))
    inner = wire.compose(wire.Envelope(wrapped=WRAPPED, body=data))
    assert refused(lambda: RING.open(inner, label=LABEL)) is not (inner == ITEM), "forged"


# --- YAML


def documents(data: bytes) -> None:
    """Any stream: what is read is written and read again as the same; cut into pieces it is the same stream."""
    found: list[Any] = []
    strict = refused(lambda: found.extend(load_values(data)))
    refused(lambda: list(load_values(data, unique_keys=False)))
    text = data.decode("latin-1")
    short = read_plain(text)
    assert short is None or short == list(go_yaml.read(text, source="", unique_keys=True))
    refused(lambda: load_all(data))
    if strict:
        return
    for value in found:
        if isinstance(value, dict) and _is_plain(value):
            assert list(load_values(dump(value).encode())) == [value]
    pieces: list[bytes] = []
    if not refused(lambda: pieces.extend(piece.content for piece in chunks(data.splitlines(keepends=True), size=16))):
        assert b"".join(pieces) == data


def _is_plain(value: Any) -> bool:
    """Say whether YAML text holds it as it is: no surrogates, no control characters, no numbers that are none."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        return False
    return all(character.isprintable() for character in text)


def secret(data: bytes) -> None:
    """A Secret to seal: behind a value that no error may repeat, too."""
    _seal(data)
    head = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: b}}\nstringData:\n  x: {CANARY}"
    _seal(head.encode() + data)


def _seal(content: bytes) -> None:
    found: list[Manifest] = []
    refused(lambda: found.extend(load_all(content)))
    for each in found[:3]:
        body, wishes = each.body, Wishes()
        refused(lambda: seal_secret(body, PAIR.certificate.public, wishes, default_namespace=lambda: ""))  # noqa: B023


def sealed(data: bytes) -> None:
    """A SealedSecret as anybody may create one: opened, linted, its hint read, its items changed in place."""
    found: list[Any] = []
    refused(lambda: found.extend(sealed_secrets(data, source="")))
    lint([Source(path="file", content=data, before=data[: len(data) // 2])], RING)
    for each in found[:3]:
        refused(lambda: open_sealed(each.manifest, RING))  # noqa: B023
        changes: list[Any] = []
        refused(lambda: changes.append(item_changes(each, {"db": "AgB", "old": None}, {"db": "SHA256:x"})))  # noqa: B023
        for tree in changes:
            refused(lambda: edit(data, {each.document: tree}))  # noqa: B023
    refused(lambda: SealedWith.read({"secretsops.dev/sealed-with": data.decode("utf-8", "replace")}).fingerprints)


# --- keys


def keys(data: bytes) -> None:
    """A certificate, a private key, both in one file, key Secrets of the cluster, a signer."""
    refused(lambda: read_certificate(data))
    refused(lambda: read_private_key(data))
    refused(lambda: read_key_pair(data, data))
    refused(lambda: read_key_pair(_KEY, data))
    refused(lambda: [read_key_secret(each.body) for each in load_all(data)])
    refused(lambda: read_signer(Plaintext(data)))
    refused(lambda: read_public(data.decode("utf-8", "replace")))


# --- escrow


def archive(data: bytes) -> None:
    """A bundle: what a recipient could open, and what stands in it."""
    refused(lambda: bundle.unpack(Plaintext(data), []))
    refused(lambda: AgeDoor().decrypt(data, [IDENTITY]))
    refused(lambda: AgeDoor().decrypt(b"age-encryption.org/v1\n-> " + data, [IDENTITY]))


def index(data: bytes) -> None:
    """Every signed document of a sink, and the configuration."""
    first = {"epoch-00000001.json": data}
    recipients = [_RECIPIENT]
    for read in (
        lambda: read_entry("epoch-00000001.json", data),
        lambda: read_chain({**first, "epoch-00000002.json": data}),
        lambda: read_claims({"claim-00000001.json": data}, None),
        lambda: proof.read_challenge(data).until,
        lambda: proof.challenge_of(data),
        lambda: proof.proven_until({"answer-1.json": data}, cluster="prod", recipients=recipients, trust=None),
        lambda: receipt.read_receipt(data),
        lambda: read_attestations(data),
        lambda: roots.read_trust(data, "sha256:x"),
        lambda: signed_by(canonical.decode(data) or {}),
        lambda: receipt.says_escrowed(data.decode("utf-8", "replace"), cluster="c", incarnation="x", fingerprint="y"),
        lambda: read_config({"escrow.yaml": data, "credentials.yaml": data, "trust.json": data, "signer.key": data}),
    ):
        refused(read)


# --- evidence of drills


def evidence(data: bytes) -> None:
    """A file of a chain, alone and as a chain; a record of any shape, drawn and compared."""
    name = "drill-00000001.json"
    assert read_link(data) is None or read_head(data) is None
    found = verify({name: data, "drill-00000002.json": data}, heads=[data])
    assert not found.holds
    signed_payload = Envelope(payload=data, signatures=[]).text()
    assert read_envelope(signed_payload) is not None
    read_link(signed_payload)
    refused(lambda: read_key(data.decode("utf-8", "replace")))
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        facts = read_facts(body)
        runs = outcomes(found.links, now="2026-01-01T00:00:00Z")
        assert "<script" not in page(facts, provenance=Provenance(), runs=runs).lower()
        ET.fromstring(junit(facts))
        markdown(facts, runs)
        compare(body, body)
        refused(lambda: refuse_unfit(body))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (envelope, documents, secret, sealed, keys, archive, index, evidence)
}


def seeds(name: str) -> list[bytes]:
    """Give inputs to begin with: whole, well-formed ones."""
    head = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret"}
    spec = {"encryptedData": {"db": ITEM, "old": ITEM}, "template": {"type": "Opaque"}}
    whole = dump({**head, "metadata": {"name": "db", "namespace": "shop"}, "spec": spec}).encode()
    plain = b"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: shop\n  annotations:\n"
    plain += b"    sealedsecrets.bitnami.com/namespace-wide: 'true'\ntype: Opaque\ndata:\n  key: dmFsdWU=\n"
    odd = (
        b"a: &x {b: [1, 2.5, ~, yes, 0o17]}\nc: *x\n<<: *x\n---\n- ? k\n  : |-\n    text\n...\n%YAML 1.1\n---\n'q': ''"
    )
    many = b'{"apiVersion": "v1", "kind": "List", "items": [{"kind": "Secret", "apiVersion": "v1"}]}{"a": 1}'
    yaml_like = [odd, many, plain, whole]
    key_secret = (KEYS / "echo2048" / "secret.yaml").read_bytes()
    match name:
        case "envelope":
            return [ITEM.encode(), base64.b64decode(ITEM)[2 + len(WRAPPED) :], b"AAA=", b"Ag" * 9]
        case "keys":
            return [_KEY, _CERTIFICATE, _KEY + _CERTIFICATE, key_secret, b"ed25519:" + b"A" * 43]
        case "archive":
            word = b"A" * 43
            return [key_secret, b"X25519 " + word + b"\n" + word + b"\n--- " + word + b"\n", *yaml_like[:2]]
        case "evidence":
            return _evidence()
        case "index":
            return [*_signed_documents(), yaml.safe_dump(_CONFIGURATION).encode()]
    return yaml_like


_CONFIGURATION = {
    "apiVersion": "secretsops.dev/v1",
    "kind": "EscrowConfig",
    "cluster": "prod",
    "recipients": [_RECIPIENT],
    "sinks": [{"name": "a", "url": "s3://b/p", "domain": "d", "retentionDays": 3, "writer": "w", "reader": "r"}],
}


def _evidence() -> list[bytes]:
    """Give a record without its empty sections, a start, and a file of a chain."""
    from tests.drills.evidence.chains import chain, report, run

    whole = of_report(report())
    parts = [json.dumps({name: whole[name]}).encode() for name in ("timeline", "measured", "checks", "objectives")]
    start = json.dumps(started_record(run(1))).encode()
    row = b'{"secrets":{"expected":1,"perKey":[{"name":"a","verdict":"missing"}]},'
    row += b'"criticalPath":[{"name":"a","durationMs":9}]}'
    return [*parts, start, row, *list(chain(1).files.values())[:1]]


def _signed_documents() -> list[bytes]:
    """Give one of each kind, from an escrow in memory."""
    from tests.secretsops.escrow import worlds

    found = worlds.sinks(1)
    signed = worlds.escrow(found)
    worlds.create(worlds.cluster(worlds.key(0)), signed)
    worlds.prove(signed, worlds.RECIPIENT, worlds.IDENTITY)
    return [text for name, text in sorted(found[0].files.items()) if name.endswith(".json")]
