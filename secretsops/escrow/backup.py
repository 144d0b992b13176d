"""Back up, prove and restore the sealing keys of one cluster, over Cluster, Sink and Age. The spine of escrow.

A backup is written, then read back and compared, and only then called done. Never here: formats (`bundle`, `index`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from secretsops.errors import AlreadyExists, BrokenEscrow, NotFound, Refused
from secretsops.escrow import bundle
from secretsops.escrow.index import Entry, KeyRecord, bundle_name, digest, entry_names, read_chain
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Age, Cluster, Sink
from secretsops.sealing.keys import KEY_LABEL
from secretsops.secret import Plaintext

SECRET = GroupVersionKind("", "v1", "Secret")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done (`created`, `unchanged`, `verified`, `restored`), for which entry; `keys` are the records."""

    action: str
    entry: Entry
    details: Sequence[str] = ()


def create(
    cluster: Cluster, sink: Sink, age: Age, *, recipients: Sequence[str], namespace: str, now: dt.datetime
) -> Outcome:
    """Back every key Secret up for `recipients`; gives `unchanged` where the newest epoch holds just these already.

    Raises:
        BrokenEscrow: the sink holds something else than a whole chain, or gives back other bytes than were written.
        Refused: there is no key to back up. UsageError: a recipient is no age recipient.
    """
    # 1. Observe the keys and the chain so far.
    secrets = cluster.list(SECRET, namespace=namespace, label_selector=KEY_LABEL)
    if not secrets:
        raise Refused(
            f"there is no sealing key in {namespace}", reason="NoKeys", hint="--namespace says where the controller is"
        )
    held, chain = bundle.records(secrets), read_entries(sink)
    uid = cluster.get(NAMESPACE, "kube-system").uid
    last = chain[-1] if chain else None
    if last and (list(last.keys), sorted(last.recipients), last.incarnation) == (held, sorted(recipients), uid):
        _refuse_damaged(last, sink.get(last.bundle))
        return Outcome(action="unchanged", entry=last)
    # 2. Encrypt, 3. write the bundle, then the entry that makes it count.
    epoch = last.epoch + 1 if last else 1
    sealed = age.encrypt(bundle.pack(secrets), recipients)
    entry = Entry(
        epoch=epoch,
        previous=digest(last.text()) if last else "",
        incarnation=uid,
        namespace=namespace,
        created=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        bundle=bundle_name(epoch, digest(sealed)),
        sha256=digest(sealed),
        size=len(sealed),
        recipients=sorted(recipients),
        keys=held,
    )
    sink.put(entry.bundle, sealed)
    sink.put(entry.name, entry.text())
    # 4. Prove: what can be read back is what was written, and the chain is whole.
    _refuse_damaged(entry, sink.get(entry.bundle))
    if read_entries(sink)[-1] != entry:
        raise BrokenEscrow(f"{sink.name} gives back another entry than was written", reason="NotDurable")
    return Outcome(action="created", entry=entry)


def verify(
    sink: Sink, age: Age | None = None, *, identities: Sequence[Plaintext] = (), cluster: Cluster | None = None
) -> Outcome:
    """Prove the chain and every bundle's bytes; with identities, that the newest opens; with a cluster, what it covers.

    Raises:
        BrokenEscrow: the first thing that does not hold, with what cures it.
    """
    chain = read_entries(sink)
    if not chain:
        raise BrokenEscrow(f"{sink.name} holds no escrow", reason="Empty", hint="secretsops escrow create makes one")
    for entry in chain:
        _refuse_damaged(entry, sink.get(entry.bundle))
    last, details = chain[-1], [f"{len(chain)} epoch(s), chain whole, bundles as written"]
    if identities and age is not None:
        bundle.unpack(age.decrypt(sink.get(last.bundle), identities), last.keys)
        details.append(f"epoch {last.epoch} opens; {len(last.keys)} private key(s) match their certificates")
    if cluster is not None:
        live = bundle.records(cluster.list(SECRET, namespace=last.namespace, label_selector=KEY_LABEL))
        _refuse_uncovered(live, last)
        details.append(f"all {len(live)} key(s) of the cluster are in it")
    return Outcome(action="verified", entry=last, details=details)


def restore(cluster: Cluster, sink: Sink, age: Age, *, identities: Sequence[Plaintext], namespace: str = "") -> Outcome:
    """Create every key Secret of the newest epoch, states included; keys that are there already stay as they are.

    Raises:
        BrokenEscrow: the escrow does not hold or does not open; nothing was written.
        Refused: another key stands under a name.
    """
    # 1. Prove everything, 2. only then write.
    verify(sink)
    last = read_entries(sink)[-1]
    secrets = bundle.unpack(age.decrypt(sink.get(last.bundle), identities), last.keys)
    details = []
    for secret in secrets:
        placed = _placed(secret, namespace or last.namespace)
        try:
            cluster.create(placed)
            details.append(f"{placed.namespace}/{placed.name} created")
        except AlreadyExists:
            _refuse_other(cluster, placed)
            details.append(f"{placed.namespace}/{placed.name} was there")
    return Outcome(action="restored", entry=last, details=details)


def read_entries(sink: Sink) -> list[Entry]:
    """Give the chain of a sink, oldest first; raises `BrokenEscrow` unless it is whole."""
    return read_chain({name: sink.get(name) for name in entry_names(sink.names())})


def _refuse_damaged(entry: Entry, content: bytes) -> None:
    if (digest(content), len(content)) != (entry.sha256, entry.size):
        raise BrokenEscrow(
            f"{entry.bundle} is not what was written", reason="Damaged", hint="take it from another copy of the escrow"
        )


def _refuse_uncovered(live: Sequence[KeyRecord], last: Entry) -> None:
    saved = {record.fingerprint: record.state for record in last.keys}
    for record in live:
        if record.fingerprint not in saved:
            raise BrokenEscrow(
                f"the key {record.name} ({record.fingerprint}) is not in the escrow",
                reason="NotCovered",
                hint="run `secretsops escrow create` now: what it sealed would be lost with the cluster",
            )
        if saved[record.fingerprint] is not record.state:
            raise BrokenEscrow(
                f"the key {record.name} is {record.state}, the escrow says {saved[record.fingerprint]}",
                reason="StateChanged",
                hint="run `secretsops escrow create`, or a restore would bring the old state back",
            )


def _placed(secret: Manifest, namespace: str) -> Manifest:
    return Manifest({**secret.body, "metadata": {**secret.metadata, "namespace": namespace}})


def _refuse_other(cluster: Cluster, wanted: Manifest) -> None:
    try:
        live = cluster.get(SECRET, wanted.name, wanted.namespace)
    except NotFound:
        cluster.create(wanted)  # deleted between the two requests
        return
    if bundle.records([live]) != bundle.records([wanted]):
        raise Refused(
            f"another key stands in {wanted.namespace}/{wanted.name}, or the same in another state",
            reason="KeyConflict",
            hint="compare both with `secretsops escrow verify`; delete the one that is wrong, and run again",
        )
