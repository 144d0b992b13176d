"""An export leaves encrypted and whole, and comes back: what Argo CD's own leaves out, Secrets made by hand, owners."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recovery import export as exports
from recovery.export_command import bring_in, export
from recovery.importing import bring
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.sinks import FolderSink
from secretsops.cli import run
from secretsops.errors import BrokenEscrow, ServerFailure
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import ClusterTarget
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.recovery.estates import Estate, application

MAP, SECRET = GroupVersionKind("", "v1", "ConfigMap"), GroupVersionKind("", "v1", "Secret")
APPLICATION = GroupVersionKind("argoproj.io", "v1alpha1", "Application")
VALUE = "canary-7f3a9c"


def thing(kind: str, name: str, namespace: str = "argocd", **more: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return Manifest({"apiVersion": "v1", "kind": kind, "metadata": metadata, **more})


def argo() -> Estate:
    """Give a cluster with an installation of Argo CD that has synced, a key, a token and a Pod."""
    estate = Estate()
    cluster = estate.cluster
    for name in sorted(exports._MAPS):
        cluster.create(thing("ConfigMap", name, data={"a": "b"}))
    data = {"password": base64.b64encode(VALUE.encode()).decode()}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": data})}
    cluster.create(thing("Secret", "argocd-secret", data=data, metadata={"annotations": applied}))
    cluster.create(thing("Secret", "argocd-notifications-secret", data=data))
    cluster.create(
        thing("Secret", "repo", data=data, metadata={"labels": {"argocd.argoproj.io/secret-type": "repository"}})
    )
    cluster.create(thing("Secret", "elsewhere", data=data))
    cluster.create(thing("ConfigMap", "other", data={"a": "b"}))
    (root,) = load_all(application("root", "apps").encode())
    made = cluster.create(Manifest({**root.body, "status": {"sync": {"status": "Synced"}}, "operation": {"sync": {}}}))
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "name": "root", "uid": made.uid}
    owned = load_all(application("child", "apps").encode())[0]
    cluster.create(Manifest({**owned.body, "metadata": {**owned.metadata, "ownerReferences": [owner]}}))
    return estate


class Doors:
    """Doors onto one cluster, a trial cluster, folders and real age."""

    def __init__(self, cluster: FakeCluster, trial: FakeCluster | None = None) -> None:
        self.one, self.trial, self.clock = cluster, trial or fresh(), FakeClock()

    def cluster(self, _target: ClusterTarget) -> FakeCluster:
        return self.one

    @contextlib.contextmanager
    def disposable_cluster(self) -> Iterator[FakeCluster]:
        yield self.trial

    def sink(self, place: str) -> FolderSink:
        return FolderSink(Path(place))

    def age(self) -> AgeDoor:
        return AgeDoor()


def fresh() -> FakeCluster:
    cluster = FakeCluster(namespaces=["kube-system"])
    cluster.serve(APPLICATION, "applications", status=False)
    return cluster


@pytest.fixture
def identity(tmp_path: Path) -> tuple[str, str]:
    """Give the file of an identity, and its recipient."""
    secret, recipient = AgeDoor().generate()
    file = tmp_path / "key.txt"
    file.write_bytes(secret.reveal())
    file.chmod(0o600)
    return str(file), recipient


def test_what_argo_holds_goes_out_encrypted_and_comes_back(
    identity: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what its own export omits; no status, no operation; owners by their new UIDs; nothing in the clear."""
    key, recipient = identity
    estate, places = argo(), [str(tmp_path / name) for name in "ab"]
    to = [word for place in places for word in ("--to", place)]
    assert run(export, [*to, "--recipient", recipient, "--trial"], prog="t", doors=Doors(estate.cluster)) == 0
    for file in (path for place in places for path in Path(place).iterdir()):
        assert VALUE.encode() not in file.read_bytes()
        assert base64.b64encode(VALUE.encode()) not in file.read_bytes()
    new = fresh()
    words = ["--from", places[1], "--identity", key]
    assert run(bring_in, [*words, "-o", "json"], prog="t", doors=Doors(new)) == 0
    said = capsys.readouterr()
    assert VALUE not in said.out + said.err
    body = json.loads(said.out[said.out.index("{") :])
    assert set(body["made"]) == {
        *(f"ConfigMap argocd/{name}" for name in exports._MAPS),
        *(f"Secret argocd/{name}" for name in ("argocd-secret", "argocd-notifications-secret", "repo")),
        *(f"argoproj.io/Application argocd/{name}" for name in ("root", "child")),
    }
    root, child = new.get(APPLICATION, "root", "argocd"), new.get(APPLICATION, "child", "argocd")
    assert not {"status", "operation"} & set(root.body)
    assert child.metadata["ownerReferences"][0]["uid"] == root.uid
    secret = new.get(SECRET, "argocd-secret", "argocd")
    assert base64.b64decode(secret.body["data"]["password"]) == VALUE.encode()
    assert "kubectl.kubernetes.io/last-applied-configuration" not in secret.annotations
    writes = len(new.writes())
    assert run(bring_in, words, prog="t", doors=Doors(new)) == 0
    assert len(new.writes()) == writes, "an import called again wrote something"
    assert run(bring_in, [*words, "--trial"], prog="t", doors=Doors(fresh(), fresh())) == 0


def test_nothing_is_overwritten(identity: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands under a name and says something else is told, and the exit code is 1."""
    key, recipient = identity
    place = str(tmp_path / "a")
    run(export, ["--to", place, "--recipient", recipient], prog="t", doors=Doors(argo().cluster))
    new = fresh()
    new.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}))
    new.create(thing("ConfigMap", "argocd-cm", data={"a": "mine"}))
    assert run(bring_in, ["--from", place, "--identity", key], prog="t", doors=Doors(new)) == 1
    assert "another stands there: ConfigMap argocd/argocd-cm" in capsys.readouterr().out
    assert new.get(MAP, "argocd-cm", "argocd").body["data"] == {"a": "mine"}


def test_a_trial_that_fails_leaves_no_export(identity: tuple[str, str], tmp_path: Path) -> None:
    """What another cluster would refuse is known before the disaster."""
    from secretsops.errors import Invalid

    trial = fresh()
    trial.fail(Invalid("spec: refused by a policy"), times=1, resource="secrets", verb="create")
    words = ["--to", str(tmp_path / "a"), "--recipient", identity[1], "--trial"]
    assert run(export, words, prog="t", doors=Doors(argo().cluster, trial)) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("position", range(6))
def test_a_kill_while_exporting_leaves_a_whole_chain(position: int, identity: tuple[str, str], tmp_path: Path) -> None:
    """Whatever was written when the process died, the older export reads, and the next one is written."""
    key, recipient = identity
    places = [str(tmp_path / name) for name in "ab"]
    words = [*(word for place in places for word in ("--to", place)), "--recipient", recipient]
    doors = Doors(argo().cluster)
    assert run(export, words, prog="t", doors=doors) == 0

    class Killed(BaseException):
        pass

    calls = 0

    class Dying(FolderSink):
        def put(self, name: str, content: bytes) -> Any:
            nonlocal calls
            calls += 1
            if calls > position:
                raise Killed
            return super().put(name, content)

    dying = Doors(argo().cluster)
    dying.sink = lambda place: Dying(Path(place))  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        run(export, words, prog="t", doors=dying)
    newest = run(bring_in, ["--from", places[0], "--identity", key], prog="t", doors=Doors(fresh()))
    assert newest == 0
    assert run(export, words, prog="t", doors=doors) == 0
    for place in places:
        assert run(bring_in, ["--from", place, "--identity", key], prog="t", doors=Doors(fresh())) == 0


def test_every_byte_of_an_export_counts(identity: tuple[str, str], tmp_path: Path) -> None:
    """A changed document, file, order or list is refused before anything is written."""
    key, recipient = identity
    place = tmp_path / "a"
    for _ in range(2):
        run(export, ["--to", str(place), "--recipient", recipient], prog="t", doors=Doors(argo().cluster))
    for file in sorted(place.iterdir()):
        whole = file.read_bytes()
        file.chmod(0o600)
        for at in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            new = fresh()
            number = ["--number", "1" if "00000001" in file.name else "2"]
            assert run(bring_in, ["--from", str(place), "--identity", key, *number], prog="t", doors=Doors(new)) == 1
            assert new.writes() == []
        file.write_bytes(whole)
    (place / "export-00000001.json").unlink()
    with pytest.raises(BrokenEscrow):
        exports.read_exports({"export-00000002.json": (place / "export-00000002.json").read_bytes()})


def test_one_bad_answer_anywhere_is_survived_or_named() -> None:
    """429, 500, nothing, 409: called again the import ends in the same state."""
    found = [exports.cleaned(m) for m in argo().cluster.list(MAP) if exports.is_of_argo(m)]
    clock = FakeClock()
    undisturbed = fresh()
    bring(undisturbed, found, clock)
    for position in range(len(undisturbed.log)):
        cluster = fresh()
        cluster.fail(ServerFailure("no answer"), skip=position)
        with contextlib.suppress(ServerFailure):
            bring(cluster, found, clock)
        assert bring(cluster, found, clock).ok
        assert {m.name for m in cluster.list(MAP)} == {m.name for m in undisturbed.list(MAP)}


def test_what_a_cluster_makes_itself_stays_behind() -> None:
    """Tokens, releases, sealing keys (they have their escrow), pods."""
    assert not exports.is_portable(thing("Pod", "a"))
    for kind in exports._MINTED:
        assert not exports.is_portable(thing("Secret", "a", type=kind))
    label = {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}
    assert not exports.is_portable(thing("Secret", "a", metadata=label))
    assert exports.is_portable(thing("Secret", "a", type="kubernetes.io/tls"))
