"""Other names in a new world: images in every pod, API servers of destinations, repositories behind mirrors."""

from __future__ import annotations

import json

import pytest

from recovery.mirrors import Mirror, Mirrored
from recovery.proof.graph import build
from recovery.proof.listing import plan_body, plan_table
from recovery.recovery_plan import read_recovery_plan
from recovery.remap import ImageRule, Remap, ServerRule, check, remapped
from recovery.walk import walk
from secretsops.errors import GitUnavailable, InvalidManifest, UsageError
from secretsops.manifest import Manifest, load_all
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, Estate, NoRenderer, application

HUB = ImageRule(from_="docker.io", to="mirror.example/hub")
RULES = Remap(
    images=(
        HUB,
        ImageRule(from_="docker.io/bitnami", to="mirror.example/b"),
        ImageRule(from_="ghcr.io/acme", to="m.example"),
    ),
    image_fields=("spec.imageName", "spec.members.image"),
    servers=(ServerRule(server="https://old.example:6443", name="in-cluster"),),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nginx", "mirror.example/hub/library/nginx"),
        ("nginx:1.27", "mirror.example/hub/library/nginx:1.27"),
        ("acme/web@sha256:" + "a" * 64, "mirror.example/hub/acme/web@sha256:" + "a" * 64),
        ("index.docker.io/acme/web:2", "mirror.example/hub/acme/web:2"),
        ("bitnami/redis:7", "mirror.example/b/redis:7"),
        ("ghcr.io/acme/api:1", "m.example/api:1"),
        ("ghcr.io/acme-evil/api:1", "ghcr.io/acme-evil/api:1"),
        ("ghcr.io/other/api", "ghcr.io/other/api"),
        ("localhost:5000/api", "localhost:5000/api"),
        ("quay.io/x/y:1", "quay.io/x/y:1"),
        ("${IMAGE}", "${IMAGE}"),
    ],
)
def test_an_image_moves_by_its_full_name_at_a_boundary(before: str, after: str) -> None:
    """As a container runtime reads names; the longest rule wins; tag and digest stay."""
    pod = Manifest({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": before}]}})
    found, changes = remapped(pod, RULES)
    assert found.spec["containers"][0]["image"] == after
    assert [change.after for change in changes] == [after] * (before != after)
    assert pod.spec["containers"][0]["image"] == before, "the object itself was altered"


def _workload(kind: str, api: str, wrap: str) -> Manifest:
    pod = {
        "initContainers": [{"name": "i", "image": "init"}],
        "containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "quay.io/b"}],
        "ephemeralContainers": [{"name": "e", "image": "e"}],
        "volumes": [{"name": "v", "image": {"reference": "files:1"}}, {"name": "w", "emptyDir": {}}],
    }
    body = json.loads(wrap.replace('"POD"', json.dumps(pod)))
    return Manifest({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, **body})


@pytest.mark.parametrize(
    ("kind", "api", "wrap"),
    [
        ("Pod", "v1", '{"spec": "POD"}'),
        ("PodTemplate", "v1", '{"template": {"spec": "POD"}}'),
        ("ReplicationController", "v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("Deployment", "apps/v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("StatefulSet", "apps/v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("DaemonSet", "apps/v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("Job", "batch/v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("CronJob", "batch/v1", '{"spec": {"jobTemplate": {"spec": {"template": {"spec": "POD"}}}}}'),
        ("Rollout", "argoproj.io/v1alpha1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("Service", "serving.knative.dev/v1", '{"spec": {"template": {"spec": "POD"}}}'),
        ("Other", "acme.example/v1", '{"spec": {"groups": [{"pods": [{"template": {"spec": "POD"}}]}]}}'),
    ],
)
def test_every_pod_is_found_wherever_it_stands(kind: str, api: str, wrap: str) -> None:
    """Containers of three sorts and image volumes; what is elsewhere stays."""
    found, changes = remapped(_workload(kind, api, wrap), RULES)
    assert sorted(change.before for change in changes) == ["a", "e", "files:1", "init"]
    text = json.dumps(found.body)
    assert text.count("mirror.example/hub/library/") == 4
    assert '"quay.io/b"' in text
    assert all(str(change) in "\n".join(map(str, changes)) and change.reason for change in changes)


def test_kinds_of_others_are_named_or_told() -> None:
    """A named field moves, through lists, too; another that names the old registry is told and stays; schemas stay."""
    custom = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "db"}}
    spec = {
        "imageName": "ghcr.io/acme/pg:16",
        "members": [{"image": "nginx"}],
        "sidecar": "ghcr.io/acme/s:1",
        "size": "1",
    }
    found, changes = remapped(Manifest({**custom, "spec": spec}), RULES)
    assert found.spec["imageName"] == "m.example/pg:16"
    assert found.spec["members"][0]["image"] == "mirror.example/hub/library/nginx"
    assert found.spec["sidecar"] == "ghcr.io/acme/s:1"
    (stays,) = [change for change in changes if not change.after]
    assert (stays.field, stays.before) == ("spec.sidecar", "ghcr.io/acme/s:1")
    schema = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {"containers": [{"image": "a"}]},
    }
    assert remapped(Manifest(schema), RULES) == (Manifest(schema), [])


def test_a_destination_by_an_old_address_becomes_a_name() -> None:
    """Else the estate is refused as another cluster's; children and generated ones, too; told with the reason."""
    old = application("shop", "shop").replace("https://kubernetes.default.svc", "https://old.example:6443/")
    estate = Estate({**FILES, "apps/shop.yaml": old})
    roots = load_all(FILES["root.yaml"].encode())
    assert [p.reason for p in walk(roots, estate.git, NoRenderer()).problems] == ["ForeignDestination"]
    found = walk(roots, estate.git, NoRenderer(), remap=RULES)
    assert found.problems == []
    (change,) = [change for change in found.changes if change.field == "spec.destination.server"]
    assert (change.object, change.after) == ("argoproj.io/Application argocd/shop", "in-cluster")
    (child,) = [
        t.manifest for p in found.applications for t in p.tasks if t.manifest.name == "shop" and t.manifest.spec
    ]
    assert child.spec["destination"] == {"name": "in-cluster", "namespace": "shop"}
    body = plan_body(found, build(found))
    assert {"https://old.example:6443/", "example.com/job"} >= {change["before"] for change in body["remapped"]}
    assert "remapped, 1 field(s): a rebuilt cluster has its old name and another address" in plan_table(body)
    assert found.digest != walk(roots, estate.git, NoRenderer()).digest, "an approved plan would cover other rules"


@pytest.mark.parametrize(
    "rules",
    [
        Remap(images=(ImageRule(from_="nginx", to="m.example"),)),
        Remap(images=(ImageRule(from_="docker.io/", to="m.example"),)),
        Remap(images=(ImageRule(from_="docker.io", to="m.example/$(x)"),)),
        Remap(servers=(ServerRule(server="old", name="x"),)),
        Remap(servers=(ServerRule(server="https://old", name="https://new"),)),
        Remap(images=(HUB,), image_fields=("spec..x",)),
    ],
)
def test_a_rule_that_cannot_mean_anything_is_refused(rules: Remap) -> None:
    """By name, before anything is read."""
    with pytest.raises(UsageError) as caught:
        check(rules)
    assert caught.value.reason == "InvalidRemap"


PLAN = """apiVersion: secretsops.dev/v1
kind: RecoveryPlan
spec:
  mirrors: [{from: "https://git.example/org", to: ["https://a.example/org", "file:///srv/org"], only: true}]
  remap:
    images: [{from: docker.io, to: mirror.example/hub}]
    imageFields: [spec.imageName]
    servers: [{server: "https://old:6443", name: in-cluster}]
"""


def test_the_rules_stand_in_recovery_yaml() -> None:
    """Strictly read, as everything there."""
    plan = read_recovery_plan(PLAN.encode())
    assert plan.remap.images == (HUB,)
    assert plan.mirrors == (
        Mirror(from_="https://git.example/org", to=("https://a.example/org", "file:///srv/org"), only=True),
    )
    for old, new in (("docker.io,", "nginx,"), ("to: [", "too: ["), ("name: in-cluster", "name: a/b")):
        with pytest.raises(InvalidManifest):
            read_recovery_plan(PLAN.replace(old, new).encode())


# --- mirrors -------------------------------------------------------------------------------------------

FIRST, SECOND = "https://one.example/estate.git", "https://two.example/estate.git"
MIRROR = Mirror(from_=URL, to=(FIRST, SECOND))


class Hosts(FakeGit):
    """Git hosts of which some are down."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[str] = set()

    def _repository(self, url: str):  # type: ignore[no-untyped-def]
        if url in self.down:
            raise GitUnavailable(f"{url} gives no answer", reason="Unreachable")
        return super()._repository(url)


def hosts() -> tuple[Hosts, str]:
    git = Hosts()
    shas = {git.commit(url, {"a.yaml": "a: 1"}) for url in (URL, FIRST, SECOND)}
    (sha,) = shas
    return git, sha


def test_mirrors_are_tried_in_order_and_a_dead_host_is_asked_once() -> None:
    """The host first; then each mirror; what is read elsewhere is told once."""
    git, sha = hosts()
    told: list[str] = []
    door = Mirrored(git, [MIRROR], told.append)
    assert door.resolve(URL, "main") == sha
    assert [url for _, url, _ in git.asked] == [URL]
    git.down |= {URL, FIRST}
    git.asked.clear()
    assert door.tree(URL, sha).files == {"a.yaml": b"a: 1"}
    assert door.resolve(URL, "main") == sha
    assert [url for _, url, _ in git.asked] == [URL, FIRST, SECOND, SECOND]
    assert len(told) == 1
    assert (SECOND in told[0], "gives no answer" in told[0]) == (True, True)
    git.down.add(SECOND)
    with pytest.raises(GitUnavailable, match="no place of"):
        door.tree(URL, sha)


def test_only_the_mirror_may_be_asked() -> None:
    """Its own host never hears of it."""
    git, sha = hosts()
    door = Mirrored(git, [Mirror(from_="https://git.invalid", to=("https://one.example",), only=True)])
    assert door.resolve(URL, "main") == sha
    assert {url for _, url, _ in git.asked} == {FIRST}


def test_a_mirror_gives_the_pinned_commit_or_nothing() -> None:
    """A force push at the host is cured by a mirror that has the commit; another commit is never taken for it."""
    git, sha = hosts()
    door = Mirrored(git, [MIRROR])
    del git._repositories[URL].commits[sha]
    assert door.tree(URL, sha).revision == sha

    class Liar(Hosts):
        def tree(self, url: str, revision: str, path: str = ""):  # type: ignore[no-untyped-def]
            return super().tree(url, "main" if url == FIRST else revision, path)

    liar = Liar()
    for url in (URL, FIRST):
        liar.commit(url, {"a.yaml": "a: 1"})
    liar.commit(FIRST, {"a.yaml": "a: evil"})
    liar.down.add(URL)
    with pytest.raises(GitUnavailable) as caught:
        Mirrored(liar, [MIRROR]).tree(URL, sha)
    assert caught.value.reason == "OtherCommit"


def test_a_branch_that_its_host_lacks_is_not_sought_elsewhere() -> None:
    """It was deleted there: a mirror that still has it is behind."""
    git, _ = hosts()
    git.commit(FIRST, {"a.yaml": "old"}, branch="gone")
    with pytest.raises(GitUnavailable) as caught:
        Mirrored(git, [MIRROR]).resolve(URL, "gone")
    assert caught.value.reason == "RevisionNotFound"


def test_charts_have_mirrors_too() -> None:
    """By the address of their repository."""
    door = Mirrored(FakeGit(), [Mirror(from_="https://charts.example", to=("https://m.example/charts",), only=True)])
    assert door._places("helm+https://charts.example/stable#web") == ["helm+https://m.example/charts/stable#web"]
    assert door._places("helm+https://charts.example.evil#web") == ["helm+https://charts.example.evil#web"]
