"""An ExternalSecret in sentences: what it reads, what it writes and when, what its status says.

What never lives here: values, requests to stores.
"""

from __future__ import annotations

from secretsops.durations import format_duration
from secretsops.errors import SecretsOpsError
from secretsops.external.entries import Pull
from secretsops.external.linting import checked
from secretsops.external.model import ExternalSecret, read
from secretsops.external.offline import Objects
from secretsops.manifest import Manifest

_WRITTEN = {
    "Owner": "is made and owned; it goes with the ExternalSecret",
    "Orphan": "is made; it stays when the ExternalSecret goes",
    "Merge": "has to be there; our keys are laid over it",
    "CreateOrMerge": "is made where it is missing; our keys are laid over it",
    "None": "is not written",
}
_MISSING = {
    "Retain": "what the provider no longer has is an error and leaves the Secret as it is",
    "Delete": "when the provider has nothing left the Secret is deleted",
    "Merge": "keys that the provider no longer has leave the Secret",
}


def explain(manifest: Manifest, objects: Objects) -> list[str]:
    """Say in sentences what an ExternalSecret reads, writes and when, and what its status says."""
    try:
        wanted = read(manifest)
    except SecretsOpsError as error:
        return [f"it is not synced: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]
    target = wanted.target
    lines = [f"{pull.place}: {_source_told(pull)}" for pull in wanted.pulls]
    written, missing = _WRITTEN[target.creation], _MISSING[target.deletion]
    lines.append(f"Secret {wanted.namespace}/{target.name} {written} (creationPolicy {target.creation})")
    lines.append(f"{missing} (deletionPolicy {target.deletion})")
    lines.append(_refresh_told(wanted))
    for condition in manifest.status.get("conditions") or []:
        said = f"{condition.get('type')} is {condition.get('status')}: {condition.get('reason')}"
        lines.append(f"status: {said}: {condition.get('message')}")
    lines += [f"{finding.reason}: {finding.message}" for finding in checked(manifest, objects)]
    return lines


def _source_told(pull: Pull) -> str:
    if pull.generator is not None:
        return f"new values of generator {pull.generator.kind} {pull.generator.name}, at every refresh"
    assert pull.store is not None
    store = f"{pull.store.kind} {pull.store.name}"
    if pull.find is not None:
        limits = [f"below {pull.find.path!r}"] if pull.find.path else []
        limits += [f"named like {pull.find.name!r}"] if pull.find.name else []
        limits += [f"tagged {key}={value}" for key, value in pull.find.tags.items()]
        return f"every secret {' and '.join(limits) or 'there is'} from {store}"
    what = f"property {pull.property_path!r} of {pull.key!r}" if pull.property_path else f"all of {pull.key!r}"
    what = f"metadata of {pull.key!r}" if pull.metadata else what
    version = f", version {pull.version}" if pull.version else ""
    goes = f" as key {pull.secret_key!r}" if pull.secret_key else ", each member as a key"
    return f"{what}{version} from {store}{goes}"


def _refresh_told(wanted: ExternalSecret) -> str:
    if wanted.refresh == "CreatedOnce":
        return "it is fetched once; again only where the Secret was edited or deleted (refreshPolicy CreatedOnce)"
    if wanted.refresh == "OnChange":
        return "it is fetched when the ExternalSecret changes (refreshPolicy OnChange)"
    if wanted.interval <= 0:
        return "it is fetched once (refreshInterval 0); again only where the Secret was edited or deleted"
    every = format_duration(wanted.interval)
    return f"it is fetched every {every}, and at any change of its spec, labels or annotations"
