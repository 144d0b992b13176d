"""A drill as a value: the world, what is lost, what must be reached, how it is recovered, what is checked. Pure.

A scenario is a YAML file (`apiVersion: secretsops.dev/v1`, `kind: Drill`); drills/README.md is its manual. Refused,
with the line: unknown fields, steps and checks; a scenario in which no check would notice lost data; a check that
cannot fail. `twin` is the same scenario with its protection removed, as a patch: it has to end `failed`. Never here:
carrying anything out, what steps there are (`vocabulary.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from drills.kinds import Kind, Table, Vocabulary
from drills.strict import Duration, Name, Path, Place, camel, document, read, schema_of
from secretsops.errors import InvalidManifest

API_VERSION, KIND = "secretsops.dev/v1", "Drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEntry:
    """One cluster: made for the drill, or given by kubeconfig and context. A source may be lost, a target is empty."""

    name: Name
    role: Literal["source", "target"] = "source"
    context: str = ""
    kubeconfig: str = ""

    @property
    def given(self) -> bool:
        """Say whether it is somebody's own and outlives the drill."""
        return bool(self.context or self.kubeconfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """One document of a secret store, with made-up values under these names."""

    store: Literal["vault", "aws"]
    key: Path
    values: tuple[Name, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEntry:
    """One Secret to seal: made up, or the login of a store. A `later` one waits for a commit that names it."""

    name: Name
    namespace: Name
    scope: Literal["strict", "namespace-wide", "cluster-wide"] = "strict"
    keys: tuple[Name, ...]
    file: Path
    from_: Literal["generated", "vault", "aws"] = "generated"
    later: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryEntry:
    """One Git repository: a folder beside the scenario, with addresses of the world filled in, and sealed Secrets."""

    name: Name = "estate"
    files: Path
    root: str = ""
    """The root Application's file; where it is left out the roots are found as `recover run` finds them."""
    sealed: tuple[SealedEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartEntry:
    """One Helm chart in the chart registry of the world, {charts}: templates by file name."""

    name: Name
    version: str
    templates: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What there is before anything happens."""

    clusters: tuple[ClusterEntry, ...]
    repositories: tuple[RepositoryEntry, ...] = ()
    stores: tuple[StoredEntry, ...] = ()
    charts: tuple[ChartEntry, ...] = ()
    vault: Literal["memory", "raft"] = "memory"
    """`raft` keeps its data on disk: it can be snapshotted, lost and restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Objectives for some applications (`namespace/name`), from the disruption until each of them is healthy."""

    name: Name
    applications: tuple[str, ...]
    control_plane_rto: Duration | None = None
    service_rto: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What must be reached. `serviceRto` counts on real nodes only, elsewhere it is `notApplicable: simulated`."""

    control_plane_rto: Duration
    rpo: Duration
    service_rto: Duration | None = None
    mtd: Duration | None = None
    """The longest bearable downtime: recovery and all checks after it."""
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """What becomes of it all. After `ttl` everything of a run may be removed by anybody (`drill gc`)."""

    ttl: Duration = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What a drill must never touch: contexts by name, clusters by the UID of their kube-system."""

    production_contexts: tuple[str, ...] = ()
    production_clusters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change as in RFC 6902; in a path an entry of a list may be told by its name: `/given/escrow/custodians`."""

    op: Literal["add", "remove", "replace"]
    path: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The scenario with its protection removed: it must end `failed`; `fails` names what must not hold."""

    without: str
    fails: tuple[Name, ...]
    patch: tuple[Change, ...]


Act = Annotated[str, "act"]
Fault = Annotated[str, "fault"]
Held = Annotated[str, "check"]
"""Mark lists of steps: what is done on purpose, what goes wrong, what must hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step or check. `at` is seconds after the first fault; `refused` the reason for which it must be refused."""

    name: str
    kind: Kind = field(repr=False, compare=False)
    parameters: Any
    line: int = field(default=0, compare=False)
    at: float = 0.0
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a drill is."""

    description: str
    hypothesis: str = ""
    quick: bool = False
    """Part of the quick half that runs on every change."""
    world: World
    objectives: Objectives
    isolation: Isolation = field(default_factory=Isolation)
    given: tuple[Act, ...]
    disaster: tuple[Fault, ...]
    recover: tuple[Act, ...] = ()
    """Where it is left out: a new cluster where the world has a target, then `rebuild`."""
    checks: tuple[Held, ...]
    cleanup: Cleanup = field(default_factory=Cleanup)
    twin: Twin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One drill, read."""

    name: str
    spec: Spec
    given: Sequence[Step]
    disaster: Sequence[Step]
    recover: Sequence[Step]
    checks: Sequence[Step]
    is_twin: bool = False

    @property
    def source(self) -> str:
        """Name the cluster that steps mean where they name none: the first source."""
        return next(one.name for one in self.spec.world.clusters if one.role == "source")

    @property
    def target(self) -> str:
        """Name the cluster that is rebuilt: the first target, else the source itself."""
        return next((one.name for one in self.spec.world.clusters if one.role == "target"), self.source)


def read_scenario(text: bytes, *, source: str, vocabulary: Vocabulary, twin: bool = False) -> Scenario:
    """Give the scenario of a file, or its twin; a file whose twin does not read is refused as a whole.

    Raises:
        InvalidManifest: it is no drill, or holds what this version does not know; names field and line.
    """
    body, place = document(text, source=source)
    if not isinstance(body, dict) or (body.get("apiVersion"), body.get("kind")) != (API_VERSION, KIND):
        raise place.wrong(f"is no {KIND} of {API_VERSION}", hint=f"apiVersion: {API_VERSION}")
    for name in body:
        if name not in ("apiVersion", "kind", "metadata", "spec"):
            raise place.into(name).wrong(f"unknown field '{name}'")
    named = read(_Metadata, body.get("metadata"), place.into("metadata"), {})
    spec, at = body.get("spec"), place.into("spec")
    found = _scenario(named.name, spec, at, vocabulary)
    if found.spec.twin is None:
        if twin:
            raise at.wrong("there is no twin", hint="add `twin`: the same without its protection")
        return found
    other = _twin(found, spec, at.into("twin"), vocabulary)
    return other if twin else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    """How the drill is called."""

    name: Name


def _scenario(name: str, body: Any, place: Place, vocabulary: Vocabulary) -> Scenario:
    steps: dict[str, list[Step]] = {section: [] for section in ("given", "disaster", "recover", "checks")}

    def reader(table: Table, options: type[Any]) -> Any:
        def act(value: Any, at: Place) -> str:
            step = _step(value, at, table, options)
            steps[str(at.path[-2])].append(step)
            return step.name

        return act

    custom = {
        Act: reader(vocabulary.acts, _ActOptions),
        Fault: reader(vocabulary.faults, _FaultOptions),
        Held: reader(vocabulary.checks, _NoOptions),
    }
    spec = read(Spec, body, place, custom)
    recover = steps["recover"]
    if not recover:
        names = ["replace"] if any(one.role == "target" for one in spec.world.clusters) else []
        recover = [_step(one, place, vocabulary.acts, _ActOptions) for one in [*names, "rebuild"]]
    _refuse_senseless(spec, steps, place)
    return Scenario(
        name=name, spec=spec, given=steps["given"], disaster=steps["disaster"], recover=recover, checks=steps["checks"]
    )


def _step(value: Any, place: Place, table: Table, options: type[Any]) -> Step:
    """Read `name`, or `name: {parameters}` with its options beside."""
    body = {value: None} if isinstance(value, str) else value
    if not isinstance(body, dict):
        raise place.wrong("should be a name, or one name with its parameters")
    own = [camel(one.name) for one in fields(options)]
    names = [name for name in body if name not in own]
    if len(names) != 1:
        raise place.wrong(f"should hold one name, it holds {len(names)}")
    kind = table.get(names[0])
    if kind is None:
        raise place.wrong(f"'{names[0][:60]}' is none of {', '.join(sorted(table))}")
    parameters = read(kind.parameters, body[names[0]], place.into(names[0]), {})
    rest = read(options, {name: one for name, one in body.items() if name in own}, place, {})
    return Step(name=names[0], kind=kind, parameters=parameters, line=place.line,
                at=getattr(rest, "at", 0.0), refused=getattr(rest, "refused", ""))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _FaultOptions:
    """When, after the first fault."""

    at: Duration = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoOptions:
    """A check is what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ActOptions:
    """For which reason it must be refused."""

    refused: str = ""


def _refuse_senseless(spec: Spec, steps: Mapping[str, Sequence[Step]], place: Place) -> None:
    world = place.into("world").into("clusters")
    if sum(one.role == "source" for one in spec.world.clusters) < 1:
        raise world.wrong("no cluster has the role source")
    for section in ("given", "disaster", "checks"):
        if not steps[section]:
            raise place.into(section).wrong("is empty: nothing would be rehearsed")
    if not any(step.kind.proves_data for step in steps["checks"]):
        raise place.into("checks").wrong(
            "no check here would notice lost data", hint="secrets-equal, objects-equal and keys-equal would"
        )
    for entries, at in (
        (spec.world.clusters, world),
        (spec.world.repositories, place.into("world").into("repositories")),
    ):
        names = [one.name for one in entries]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise at.wrong(f"'{doubled[0]}' is there twice")
    known = {one.name for one in spec.world.clusters}
    for section, listed in steps.items():
        for number, step in enumerate(listed):
            named = getattr(step.parameters, "cluster", "")
            if named and named not in known:
                raise place.into(section).into(number).wrong(f"the world has no cluster '{named}'")
    if spec.objectives.control_plane_rto <= 0:
        raise place.into("objectives").into("controlPlaneRto").wrong("nothing can be met in no time")


# --- the twin ------------------------------------------------------------------------------------------


def _twin(found: Scenario, body: Any, place: Place, vocabulary: Vocabulary) -> Scenario:
    assert found.spec.twin is not None
    if not found.spec.twin.patch or not found.spec.twin.fails:
        raise place.wrong("a twin patches something, and names what then fails")
    changed = copy.deepcopy({name: value for name, value in body.items() if name != "twin"})
    for number, change in enumerate(found.spec.twin.patch):
        _change(changed, change, place.into("patch").into(number))
    try:
        other = _scenario(found.name, changed, Place(place.source), vocabulary)
    except InvalidManifest as error:
        raise place.wrong(f"patched it is refused: {error.problem}") from None
    names = {step.name for steps in (other.given, other.disaster, other.recover, other.checks) for step in steps}
    for name in found.spec.twin.fails:
        if name not in names:
            raise place.into("fails").wrong(f"the twin has no step or check '{name}'")
    return Scenario(
        name=found.name, spec=other.spec, given=other.given, disaster=other.disaster, recover=other.recover,
        checks=other.checks, is_twin=True,
    )  # fmt: skip


def _change(body: Any, change: Change, place: Place) -> None:
    *above, last = [one.replace("~1", "/").replace("~0", "~") for one in change.path.lstrip("/").split("/")]
    here = body
    for token in above:
        here = _descend(here, token, place)
    if isinstance(here, list):
        number = len(here) if last == "-" else _index(here, last, place)
        if change.op == "remove":
            del here[number]
        elif change.op == "add":
            here.insert(number, change.value)
        else:
            here[number] = change.value
    elif isinstance(here, dict):
        if change.op != "add" and last not in here:
            raise place.wrong(f"there is no '{last}' at {change.path}")
        if change.op == "remove":
            del here[last]
        else:
            here[last] = change.value
    else:
        raise place.wrong(f"there is nothing at {change.path}")


def _descend(here: Any, token: str, place: Place) -> Any:
    """Give what is below; an entry of a list by number, by its `name`, or by the step it is (then its parameters)."""
    if isinstance(here, dict) and token in here:
        if here[token] is None:
            here[token] = {}
        return here[token]
    if isinstance(here, list):
        number = _index(here, token, place)
        entry, name = here[number], token.partition("#")[0]
        if entry == name:
            entry = here[number] = {name: {}}
        if isinstance(entry, dict) and name in entry:
            if entry[name] is None:
                entry[name] = {}
            return entry[name]
        return entry
    raise place.wrong(f"there is no '{token}'")


def _index(here: list[Any], token: str, place: Place) -> int:
    if token.isdigit():
        if int(token) < len(here):
            return int(token)
        raise place.wrong(f"the list has no entry {token}")
    name, _, which = token.partition("#")
    found = [
        n
        for n, one in enumerate(here)
        if one == name or (isinstance(one, dict) and (name in one or one.get("name") == name))
    ]
    number = int(which) - 1 if which.isdigit() else 0
    if not 0 <= number < len(found):
        raise place.wrong(f"the list has no entry '{token}'")
    return found[number]


# --- schema --------------------------------------------------------------------------------------------


def schema(vocabulary: Vocabulary) -> dict[str, Any]:
    """Give the JSON schema of a scenario file, made from the classes that read it."""
    custom = {
        Act: {"$ref": "#/$defs/act"}, Fault: {"$ref": "#/$defs/fault"}, Held: {"$ref": "#/$defs/check"},
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{KIND} of {API_VERSION}",
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": KIND},
            "metadata": schema_of(_Metadata, {}),
            "spec": schema_of(Spec, custom),
        },
        "$defs": {
            "act": _steps_schema(vocabulary.acts, schema_of(_ActOptions, {})),
            "fault": _steps_schema(vocabulary.faults, schema_of(_FaultOptions, {})),
            "check": _steps_schema(vocabulary.checks, schema_of(_NoOptions, {})),
        },
    }


def _steps_schema(table: Table, options: Mapping[str, Any]) -> dict[str, Any]:
    one = []
    plain = []
    for name, kind in sorted(table.items()):
        parameters = schema_of(kind.parameters, {})
        one.append({
            "type": "object", "description": kind.about, "additionalProperties": False, "required": [name],
            "properties": {name: parameters, **options["properties"]},
        })  # fmt: skip
        if "required" not in parameters:
            plain.append(name)
    return {"oneOf": [{"enum": plain}, *one]}
