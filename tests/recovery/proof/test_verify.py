"""`recover verify`: every Secret has a producer that comes back, or there is a hole and it is named."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recovery.cli import recover
from recovery.proof.evidence import Escrowed, Mode, Verdict, judge_sealed, statement_id
from recovery.proof.verdicts import KEY_VARIABLE, Verdicts
from recovery.proof.verify import Proof, Report
from recovery.proof.verify import verify as judge
from recovery.recovery_plan import RecoveryPlan, read_recovery_plan
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.sinks import open_sink
from secretsops.cli import run
from secretsops.escrow import backup, custody, proof
from secretsops.escrow.backup import Order
from secretsops.escrow.index import State
from secretsops.escrow.places import plain
from secretsops.manifest import Manifest, dump
from secretsops.ports import Answer, SinkAccess
from secretsops.sealing.keys import KEY_LABEL, KeyPair, generate, key_secret
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed import seal_value
from secretsops.sealing.sealed_with import ANNOTATION
from secretsops.secret import Plaintext
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, NoRenderer, application
from tests.recovery.proof.lint_cases import (
    TOKEN,
    certificates,
    deployment,
    env,
    external,
    generated,
    ingress,
    obj,
    store,
)
from tests.recovery.proof.subjects import subject_of

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
KEY, OTHER = generate(now=NOW, bits=2048), generate(now=NOW, bits=2048)
ESCROWED = Escrowed(
    keys={KEY.fingerprint: State.SEALING}, epoch=3, created="2026-03-01T11:00:00Z", sinks=["s"], recipients=["age1x"]
)
PLAN = read_recovery_plan(
    b"apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec: {gitHosts: [{name: git.invalid, anonymous: true}]}"
)


def sealed(name: str, key: KeyPair = KEY, *, hint: str = "", namespace: str = "shop", wave: str = "-1") -> str:
    """Give a real SealedSecret with one item."""
    value = seal_value(
        Plaintext(b"hunter2"), key.certificate.public, scope=Scope.STRICT, namespace=namespace, name=name
    )
    annotations = {"argocd.argoproj.io/sync-wave": wave, ANNOTATION: hint or key.fingerprint}
    body = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"encryptedData": {"a": value}},
    }
    return f"{dump(body)}---\n"


def proven(text: str, *, plan: RecoveryPlan = PLAN, escrowed: Escrowed = ESCROWED, **more: Any) -> Report:
    """Give the report of one application."""
    evidence = Proof(mode=Mode.ATTESTED, escrowed=escrowed, plan=plan, **more)
    return judge(subject_of(text), evidence, NOW)


def verdict(text: str, name: str = "Secret shop/token", **more: Any) -> tuple[Verdict, str]:
    """Give verdict and reason of one Secret."""
    row = next(row for row in proven(text, **more).rows if row.object == name)
    return row.verdict, row.why


WEB = deployment("web", container=env("token"))
OK, HOLE, UNKNOWN = Verdict.RECOVERABLE, Verdict.HOLE, Verdict.UNKNOWN


# --- sealed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "states", "expected"),
    [
        (KEY, {KEY.fingerprint: State.SEALING}, OK),
        (KEY, {KEY.fingerprint: State.OPEN_ONLY}, OK),
        (KEY, {KEY.fingerprint: State.COMPROMISED}, HOLE),
        (KEY, {KEY.fingerprint: State.RETIRED}, HOLE),
        (OTHER, {KEY.fingerprint: State.SEALING}, HOLE),
    ],
)
def test_a_sealed_secret_comes_back_by_an_escrowed_key(
    key: KeyPair, states: Mapping[str, State], expected: Verdict
) -> None:
    """Its key is in the escrow, and may open again."""
    assert verdict(WEB + sealed("token", key), escrowed=replace(ESCROWED, keys=states))[0] is expected


def test_nothing_says_which_key() -> None:
    """Unknown is a hole: without a hint and a statement nobody knows."""
    report = proven(WEB + sealed("token", hint="none"))
    assert [row.verdict for row in report.holes] == [UNKNOWN]
    assert not report.ok


def test_a_broken_item_is_a_hole_whatever_its_hint_says() -> None:
    """What is no envelope opens with no key."""
    text = sealed("token")
    start = text.index("a: ") + 3
    for broken in ("AgAAAA==", "plain", text[start : start + 400]):
        end = text.index("\n", start)
        assert verdict(WEB + text[:start] + json.dumps(broken) + text[end:])[0] is HOLE


def test_an_escrow_that_nobody_is_known_to_open_proves_nothing() -> None:
    """A recipient nobody holds opens nothing."""
    escrowed = replace(ESCROWED, unproven="nobody has shown")
    assert verdict(WEB + sealed("token"), escrowed=escrowed) == (UNKNOWN, "nobody has shown")


def test_a_statement_wins_over_a_hint_and_counts_for_its_place_and_text_only() -> None:
    """It names digest, place and item: nothing else is proven by it."""
    manifest = next(n.manifest for n in subject_of(sealed("token")).nodes if n.key.kind == "SealedSecret")
    text = manifest.spec["encryptedData"]["a"]
    known = {statement_id(manifest, "a", text): OTHER.fingerprint}
    assert judge_sealed(manifest, ESCROWED, lambda one: known.get(one, "")).verdict is HOLE
    moved = Manifest({**manifest.body, "metadata": {**manifest.metadata, "namespace": "elsewhere"}})
    assert statement_id(moved, "a", text) not in known
    assert statement_id(manifest, "b", text) not in known
    assert statement_id(manifest, "a", text + "\n") not in known


def test_the_controller_is_asked_only_about_what_is_not_known() -> None:
    """Statements spare requests; a no is a hole."""
    asked: list[str] = []

    def opener(sealed_secret: Manifest) -> Mapping[str, str]:
        asked.append(sealed_secret.name)
        return {} if sealed_secret.name == "other" else {"a": ""}

    text = sealed("token") + sealed("other") + sealed("third", hint="none")
    nodes = {n.manifest.name: n.manifest for n in subject_of(text).nodes if n.key.kind == "SealedSecret"}
    known = {statement_id(nodes["token"], "a", nodes["token"].spec["encryptedData"]["a"]): KEY.fingerprint}
    report = proven(text, opener=opener, known=lambda one: known.get(one, ""))
    assert sorted(asked) == ["other", "third"]
    found = {row.object: (row.verdict, row.how) for row in report.rows if row.kind == "secret"}
    assert found == {
        "Secret shop/token": (OK, "statement"),
        "Secret shop/other": (HOLE, "opened"),
        "Secret shop/third": (UNKNOWN, "controller"),
    }


# --- other producers -----------------------------------------------------------------------------------

PLANNED = "apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec: {gitHosts: [{name: git.invalid, anonymous: true}], "
SEALED_TOKEN, HAND_MADE = sealed("vt"), store("tokenSecretRef: {name: vt, key: a}")


def provider(text: str) -> str:
    """Give a SecretStore of another provider."""
    return obj("external-secrets.io/v1", "SecretStore", "vault", f"spec: {{provider: {{{text}}}}}", namespace="shop")


CASES = {
    "nobody": (WEB, HOLE),
    "committed": (WEB + obj("v1", "Secret", "token", "stringData: {a: b}"), OK),
    "committed empty": (WEB + obj("v1", "Secret", "token"), HOLE),
    "filled by the cluster": (WEB + obj("v1", "Secret", "token", "type: kubernetes.io/service-account-token"), OK),
    "store gone": (WEB + external("token"), HOLE),
    "store by a sealed token": (
        WEB + external("token") + store("tokenSecretRef: {name: vt, key: a}") + sealed("vt"),
        OK,
    ),
    "store by a hand-made token": (WEB + external("token") + HAND_MADE, HOLE),
    "store by a key that is lost": (
        WEB + external("token") + store("tokenSecretRef: {name: vt, key: a}") + sealed("vt", OTHER),
        HOLE,
    ),
    "store that reads itself": (WEB + external("token") + store(TOKEN), HOLE),
    "store by an identity of the cluster": (WEB + external("token") + store("kubernetes: {role: r}"), HOLE),
    "store inside": (
        WEB
        + external("token")
        + store("tokenSecretRef: {name: vt, key: a}", server="https://vault.example")
        + sealed("vt")
        + ingress("vault.example"),
        HOLE,
    ),
    "store without a credential": (
        WEB
        + external("token")
        + obj(
            "external-secrets.io/v1", "SecretStore", "vault", "spec: {provider: {aws: {region: x}}}", namespace="shop"
        ),
        UNKNOWN,
    ),
    "store that holds its values": (
        WEB
        + external("token")
        + obj(
            "external-secrets.io/v1", "SecretStore", "vault", "spec: {provider: {fake: {data: []}}}", namespace="shop"
        ),
        OK,
    ),
    "cluster store that does not admit": (
        WEB
        + external("token").replace("{name: vault}", "{name: vault, kind: ClusterSecretStore}")
        + obj(
            "external-secrets.io/v1",
            "ClusterSecretStore",
            "vault",
            "spec: {conditions: [{namespaces: [other]}], provider: {fake: {data: []}}}",
        ),
        HOLE,
    ),
    "generator": (WEB + generated().replace("name: db", "name: token"), HOLE),
    "generator that may": (
        WEB + generated(marks='secretsops.dev/regenerable: "true"').replace("name: db", "name: token"),
        OK,
    ),
    "certificate": (
        certificates(1, "https://acme.example")
        + deployment("web", "volumes: [{name: t, secret: {secretName: t0}}]").replace("t0", "t0"),
        OK,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_secret_comes_back_if_what_makes_it_does(case: str) -> None:
    """Each producer is followed to its own Secrets."""
    text, expected = CASES[case]
    name = "Secret shop/t0" if case == "certificate" else "Secret shop/token"
    assert verdict(text, name)[0] is expected


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (CASES["nobody"][0], "secrets: [{name: shop/token, source: safe of the office}]}"),
        (CASES["store by an identity of the cluster"][0], "stores: [{name: shop/vault, retrusted: 2026-02-01}]}"),
        (CASES["store without a credential"][0], "stores: [{name: SecretStore/shop/vault, survives: true}]}"),
        (CASES["store inside"][0], "stores: [{name: vault, restoredBy: raft snapshot}]}"),
    ],
)
def test_recovery_yaml_says_what_git_cannot(text: str, more: str) -> None:
    """What comes from outside is declared, and then it is no hole."""
    plan = read_recovery_plan((PLANNED + more).replace("2026-02-01", "'2026-02-01'").encode())
    assert verdict(text, plan=plan)[0] is OK


def test_what_must_come_from_outside_is_listed_with_its_source() -> None:
    """The secret-zero manifest is derived."""
    plan = read_recovery_plan((PLANNED + "secrets: [{name: shop/token, source: office safe}]}").encode())
    zero = {(entry.type, entry.name): entry.source for entry in proven(WEB + sealed("db"), plan=plan).zero}
    assert zero[("secret", "shop/token")] == "office safe"
    assert zero[("sealing-key", KEY.fingerprint)] == "escrow epoch 3 (s)"
    assert zero[("escrow-identity", "age identity")] == "held for age1x"


def test_a_repository_of_which_nothing_is_said_is_unknown() -> None:
    """Its credential may have been made by hand."""
    report = proven(WEB + sealed("token"), plan=RecoveryPlan())
    assert [(row.kind, row.verdict) for row in report.holes] == [("repository", UNKNOWN)]
    assert report.percentages() == {"secret": 100.0, "repository": 0.0, "cluster": 100.0, "sealedItem": 100.0}


def test_what_can_be_done_without_is_no_hole() -> None:
    """An optional reference is shown, and does not fail the proof."""
    optional = "env: [{name: A, valueFrom: {secretKeyRef: {name: token, key: a, optional: true}}}]"
    report = proven(deployment("web", container=optional))
    assert [(row.object, row.optional, row.verdict) for row in report.rows if row.kind == "secret"] == [
        ("Secret shop/token", True, HOLE)
    ]
    assert report.ok


def test_the_rpo_is_bounded_by_the_newest_epoch() -> None:
    """0 where nothing is lost; a key that is not escrowed is younger than the newest epoch."""
    assert proven(WEB + sealed("token")).rpo == 0.0
    assert proven(WEB + sealed("token", OTHER)).rpo == 3600.0
    assert proven(WEB + sealed("token", OTHER), escrowed=Escrowed()).rpo is None


# --- kept verdicts -------------------------------------------------------------------------------------

ENVIRONMENT = {KEY_VARIABLE: "k" * 32}


def test_kept_verdicts_are_read_back_and_a_planted_one_is_not(tmp_path: Path) -> None:
    """The MAC holds the file together; another key, a changed byte, broken JSON count as nothing."""
    first = Verdicts(tmp_path, ENVIRONMENT)
    first.state("id", key="SHA256:x", how="opened", at="now")
    first.save()
    assert Verdicts(tmp_path, ENVIRONMENT).key_of("id") == "SHA256:x"
    path = tmp_path / "verdicts.json"
    content = path.read_text()
    for planted in (content.replace("SHA256:x", "SHA256:y"), content[:-2], "{}", '{"mac": 1, "body": {}}', ""):
        path.write_text(planted)
        found = Verdicts(tmp_path, ENVIRONMENT)
        assert (found.key_of("id"), found.distrusted) == ("", True)
    path.write_text(content)
    assert Verdicts(tmp_path, {KEY_VARIABLE: "x" * 32}).distrusted


def test_without_a_key_in_the_environment_the_user_has_one(tmp_path: Path) -> None:
    """It is made once, readable to its owner alone; one that others can read is not used."""
    first = Verdicts(tmp_path / "new", {})
    first.state("id", key="SHA256:x", how="opened", at="now")
    first.save()
    key = tmp_path / "new" / "verdicts.key"
    assert key.stat().st_mode & 0o077 == 0
    assert Verdicts(tmp_path / "new", {}).key_of("id") == "SHA256:x"
    key.chmod(0o644)
    assert Verdicts(tmp_path / "new", {}).key_of("id") == ""


# --- the command ---------------------------------------------------------------------------------------


class World(SimpleNamespace):
    """The doors of one command: a Git in memory, real age, a folder as sink, a cluster with the sealing key."""

    def __init__(self, folder: Path, text: str) -> None:
        git, cluster, clock = FakeGit(), FakeCluster(), FakeClock()
        self.folder, self.age_door = folder, AgeDoor()
        self.identity, self.recipient = self.age_door.generate()
        self.now = clock.now()
        secret = key_secret(KEY, namespace="kube-system")
        metadata = {"name": "key0", "namespace": "kube-system", "labels": {KEY_LABEL: "active"}}
        cluster.seed({**secret, "metadata": metadata})
        files = {"root.yaml": application("shop", "shop"), "shop/all.yaml": text}
        files["recovery.yaml"] = (
            "apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\n"
            "spec: {gitHosts: [{name: git.invalid, anonymous: true}]}\n"
        )
        git.commit(URL, files)
        super().__init__(
            git=lambda: git,
            renderer=NoRenderer,
            clock=clock,
            cluster=lambda _: cluster,
            age=lambda: self.age_door,
            sink=lambda access: open_sink(access if isinstance(access, SinkAccess) else SinkAccess(url=access)),
        )
        self.repository = git
        (folder / "identity.txt").write_bytes(self.identity.reveal())
        (folder / "identity.txt").chmod(0o600)
        self.escrow = plain([self.sink(str(folder / "escrow"))], self.age_door)
        order = Order(recipients=(self.recipient,), namespace="kube-system", now=self.now)
        backup.create(cluster, self.escrow, order)

    def prove_possession(self) -> None:
        """Answer a challenge."""
        (asked,) = custody.challenge(self.escrow, [self.recipient], nonces=[bytes(32)], now=self.now)
        import base64

        opened = self.age_door.decrypt(base64.b64decode(asked.ciphertext), [self.identity])
        custody.record(self.escrow, proof.answer(asked, opened), now=self.now)

    def verify(self, *more: str) -> int:
        """Run the command with its own cache."""
        where = ["--repo", URL, "--revision", "main", "--from", str(self.folder / "escrow")]
        cache = ["--cache", str(self.folder / "cache")]
        return run(recover, ["verify", *where, *cache, *more], prog="recover", doors=self)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give an estate whose secret was sealed with the escrowed key."""
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "escrow").mkdir()
    return World(tmp_path, WEB + sealed("token"))


def test_attested_holds_no_key_and_wants_somebody_who_holds_one(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a custodian has answered it is a hole; afterwards it is none, and the kept report says the same."""
    assert world.verify() == 1
    assert "nobody has shown within 180 days" in capsys.readouterr().out
    world.prove_possession()
    assert world.verify("-o", "json") == 0
    first = json.loads(capsys.readouterr().out)
    before = len(world.repository.asked)
    assert world.verify("-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == first
    assert len(world.repository.asked) - before < before / 2
    assert first["percentages"]["sealedItem"] == 100.0


def test_a_new_commit_is_judged_anew(world: World) -> None:
    """A kept report counts for its commits only."""
    world.prove_possession()
    assert world.verify() == 0
    world.repository.commit(URL, {"shop/more.yaml": deployment("api", container=env("other"))})
    assert world.verify() == 1


def test_a_kept_report_does_not_outlive_a_new_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was unknown is known once somebody has opened it."""
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "escrow").mkdir()
    world = World(tmp_path, WEB + sealed("token", hint="none"))
    world.prove_possession()
    assert world.verify() == 1
    assert world.verify("--escrow", "--identity", str(tmp_path / "identity.txt")) == 0
    assert world.verify() == 0
    capsys.readouterr()


def test_escrow_opens_everything_and_leaves_statements(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The value is nowhere; a later attested run rests on the statement, not on the annotation."""
    identity = ["--identity", str(world.folder / "identity.txt")]
    assert world.verify("--escrow", *identity, "--all", "-o", "json") == 0
    body = json.loads(capsys.readouterr().out)
    assert [row["how"] for row in body["matrix"] if row["kind"] == "secret"] == ["opened"]
    world.prove_possession()
    assert world.verify("-o", "json") == 0
    body = json.loads(capsys.readouterr().out)
    assert [row["how"] for row in body["matrix"] if row["kind"] == "secret"] == ["statement"]
    kept = b"".join(path.read_bytes() for path in (world.folder / "cache").iterdir())
    assert b"hunter2" not in kept
    assert b"hunter2" not in json.dumps(body).encode()


class Controllers(FakeCluster):
    """A cluster whose sealing controller answers verify with one code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code, self.asked = code, 0
        metadata = {"name": "sealed-secrets-controller", "namespace": "kube-system"}
        ports = [{"name": "http", "port": 8080}]
        self.seed({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}})

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        assert (method, path.rpartition("/proxy")[2]) == ("POST", "/v1/verify")
        self.asked += 1
        return Answer(code=self.code, headers={}, body=b"")


def test_live_asks_the_controller_and_leaves_statements(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A no is a hole; a yes is kept, so that the next run asks nothing."""
    world.prove_possession()
    no, yes = Controllers(409), Controllers(200)
    world.cluster = lambda _: no
    assert world.verify("--live", "-o", "json") == 1
    world.cluster = lambda _: yes
    capsys.readouterr()
    for how in ("controller", "statement"):
        assert world.verify("--live", "-o", "json") == 0
        body = json.loads(capsys.readouterr().out)
        assert [row["how"] for row in body["matrix"] if row["kind"] == "secret"] == [how]
    assert (no.asked, yes.asked) == (1, 1)


def test_escrow_is_refused_in_ci_and_an_override_is_a_finding(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No service holds an identity."""
    monkeypatch.setenv("CI", "true")
    identity = ["--identity", str(world.folder / "identity.txt")]
    assert world.verify("--escrow", *identity) == 1
    assert "Unattended" in capsys.readouterr().err
    assert world.verify("--escrow", *identity, "--in-ci", "yearly exercise", "-o", "json") == 0
    assert "yearly exercise" in json.loads(capsys.readouterr().out)["findings"][0]


def test_a_report_holds_every_key_that_scripts_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The shape is stable."""
    world.verify("-o", "json")
    body = json.loads(capsys.readouterr().out)
    assert list(body) == [
        "apiVersion",
        "kind",
        "mode",
        "verdict",
        "percentages",
        "rpoSeconds",
        "escrow",
        "matrix",
        "secretZero",
        "problems",
        "findings",
    ]
