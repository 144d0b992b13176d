"""What several tests of the escrow need."""

from __future__ import annotations

import hashlib
import json

import pytest

from secretsops.escrow import bundle
from secretsops.escrow.backup import NAMESPACE
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink
from tests.secretsops.escrow.worlds import AGE, RECIPIENT, cluster, key


@pytest.fixture
def yesterday() -> tuple[FakeSink, FakeCluster]:
    """Give a sink with one epoch as the version before signatures wrote it, and the cluster it is of."""
    source, sink = cluster(key(0), key(1)), FakeSink()
    secrets = [key(0), key(1)]
    sealed = AGE.encrypt(bundle.pack(secrets), [RECIPIENT])
    sha256 = hashlib.sha256(sealed).hexdigest()
    uid = source.get(NAMESPACE, "kube-system").uid
    records = [
        {"name": each.name, "fingerprint": each.fingerprint, "born": each.born, "state": each.state.value}
        for each in bundle.records(secrets)
    ]
    entry = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "EscrowEntry",
        "epoch": 1,
        "previous": "",
        "incarnation": uid,
        "namespace": "kube-system",
        "created": "2026-01-01T00:00:00Z",
        "bundle": f"epoch-00000001-{sha256[:16]}.age",
        "sha256": sha256,
        "size": len(sealed),
        "recipients": [RECIPIENT],
        "keys": records,
    }
    sink.files[str(entry["bundle"])] = sealed
    sink.files["epoch-00000001.json"] = json.dumps(entry, indent=2, sort_keys=True).encode() + b"\n"
    return sink, source
