"""AWS Secrets Manager: single and batched reads, searches, tags, and what PushSecrets write.

What never lives here: identities (`aws_identity.py`), property selection.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from secretsops.adapters.aws import (
    MATCH_LIMIT,
    AwsSource,
    as_mapping,
    is_ours,
    not_ours,
    too_many,
    wished_tags,
    wishes,
)
from secretsops.errors import StoreRefused
from secretsops.external.patterns import found
from secretsops.external.pushed import as_json, has_property, with_property, without_property
from secretsops.external.rawjson import encode
from secretsops.ports import Ask, Fetched, Put, Query
from secretsops.secret import Plaintext

FIRST_TOKEN = "00000000-0000-0000-0000-000000000001"  # noqa: S105 - a name for the first version
"""Compat: the peer's idempotency token for a new secret: two that create the same one create it once."""
PUSH_FIELDS = frozenset({"tags", "description", "kmsKeyId", "kmsKeyID", "secretPushFormat"})


class SecretsManagerSource(AwsSource):
    """Secrets Manager of one region with one identity. Satisfies `secretsops.ports.SecretSource`."""

    service = "secretsmanager"
    right = "secretsmanager:GetSecretValue"
    batch = 20

    # --- Reading ---------------------------------------------------------------------------------------

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one secret by name or ARN; `version` is a stage, or `uuid/` and a version id.

        Compat: a secret scheduled for deletion is `NotFound`; the peer calls it an ordinary error.

        Raises:
            StoreRefused: `NotFound`, `Denied` or `Invalid`.
            StoreUnavailable: no usable answer.
        """
        which = {"VersionStage": version or "AWSCURRENT"}
        if version.startswith("uuid/"):
            which = {"VersionId": version.removeprefix("uuid/")}
        name = self.access.prefix + key
        return _fetched(self.ask(_reading(key), "get_secret_value", SecretId=name, **which))

    def fetch_many(self, asks: Sequence[Ask]) -> Mapping[Ask, Fetched | StoreRefused]:
        """Read the current versions of up to 20 secrets; empty where we may not read in batches."""
        names = {ask: self.access.prefix + ask.key for ask in asks if not ask.version and not ask.metadata}
        answers = self._many(list(names.values()))
        return {ask: answers[name] for ask, name in names.items() if name in answers}

    def _many(self, names: Sequence[str]) -> dict[str, Fetched | StoreRefused]:
        try:
            answer = self.ask("reading several secrets", "batch_get_secret_value", SecretIdList=list(names))
        except StoreRefused:
            # Denied, or a service that knows no batches: it says nothing about the secrets.
            return {}
        result: dict[str, Fetched | StoreRefused] = {}
        wanted = set(names)
        for entry in answer.get("SecretValues") or []:
            for name in {str(entry.get("Name")), str(entry.get("ARN"))} & wanted:
                result[name] = _fetched(entry)
        for problem in answer.get("Errors") or []:
            name = str(problem.get("SecretId"))
            # Anything but absence is asked for once more, alone: the answer then names its cause.
            if problem.get("ErrorCode") == "ResourceNotFoundException" and name in wanted:
                result[name] = StoreRefused(
                    f"{_reading(name)}: it does not exist", reason="NotFound", hint="check name and region"
                )
        return result

    def metadata(self, key: str, version: str = "") -> Fetched:  # noqa: ARG002 - tags are the secret's
        """Read the tags."""
        described = self._described(key)
        if described is None:
            raise StoreRefused(f"{_reading(key)}: it does not exist", reason="MetadataMissing", hint="check its name")
        return Fetched(document=Plaintext(encode(as_mapping(described.get("Tags")), html=False).encode()))

    def find(self, query: Query) -> Mapping[str, Fetched]:
        """List what fits and read it in batches; names are whole.

        Compat: tags count as pairs of key and value, and a search stays below the store's prefix; the peer matches keys
        and values apart, and forgets or doubles the prefix.
        """
        start = self.access.prefix + query.path
        filters = [{"Key": "name", "Values": [start]}] if start else []
        filters += [{"Key": "tag-key", "Values": [key]} for key in sorted(query.tags)]
        names: list[str] = []
        for page in self.pages("listing secrets", "list_secrets", Filters=filters, MaxResults=100):
            for entry in page.get("SecretList") or []:
                name = str(entry.get("Name"))
                tags = as_mapping(entry.get("Tags"))
                tagged = all(tags.get(key) == value for key, value in query.tags.items())
                if name.startswith(start) and tagged and (not query.name or found(query.name, name)):
                    names.append(name)
            if len(names) > MATCH_LIMIT:
                raise too_many(f"more than {MATCH_LIMIT} secrets fit")
        return self._all(names)

    def _all(self, names: Sequence[str]) -> dict[str, Fetched]:
        result: dict[str, Fetched] = {}
        batched = True
        for start in range(0, len(names), self.batch):
            some = names[start : start + self.batch]
            answers = self._many(some) if batched and len(some) > 1 else {}
            batched = bool(answers) or len(some) == 1
            for name in some:
                answer = answers.get(name)
                if answer is None:
                    answer = self._unless_gone(name)
                if isinstance(answer, Fetched):
                    result[name] = answer
        return dict(sorted(result.items()))

    def _unless_gone(self, name: str) -> Fetched | None:
        """Read one that was listed; it may have been deleted since."""
        try:
            return _fetched(self.ask(_reading(name), "get_secret_value", SecretId=name))
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None

    # --- Writing ---------------------------------------------------------------------------------------

    def exists(self, key: str, property_path: str = "") -> bool:
        """Say whether there is a secret with a value, and in it the property."""
        held = self._held(key)
        return held is not None and (not property_path or has_property(held, property_path))

    def put(self, put: Put) -> bool:
        """Create the secret or give it a new version; the same value is not written again.

        Raises:
            StoreRefused: `NotOurs`, `Invalid`, `Denied`, `Unsupported` for metadata that is not built.
        """
        spec = wishes(put.metadata, PUSH_FIELDS)
        described, name = self._described(put.key), self.access.prefix + put.key
        if described is not None and not is_ours(described.get("Tags")):
            raise not_ours(put.key)
        old = self._held(put.key) if described is not None else None
        new = as_json(put.value) if isinstance(put.value, Mapping) else put.value
        if put.property:
            new = with_property(old, put.property, new)
        plain = spec.get("secretPushFormat") == "string"
        value = {"SecretString": new.reveal().decode("utf-8", "replace")} if plain else {"SecretBinary": new.reveal()}
        if described is None:
            key = spec.get("kmsKeyId") or spec.get("kmsKeyID")
            self.ask(
                f"creating secret {put.key!r}",
                "create_secret",
                Name=name,
                ClientRequestToken=FIRST_TOKEN,
                Description=str(spec.get("description") or "secret 'managed-by:external-secrets'"),
                Tags=wished_tags(spec),
                **({"KmsKeyId": str(key)} if key else {}),
                **value,
            )
            return True
        changed = self._retagged(name, put.key, described, spec)
        if old is not None and old == new:
            return changed
        token = str(uuid.uuid4()) if old is not None or described.get("VersionIdsToStages") else FIRST_TOKEN
        self.ask(f"writing secret {put.key!r}", "put_secret_value", SecretId=name, ClientRequestToken=token, **value)
        return True

    def _retagged(self, name: str, key: str, described: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
        """Bring the tags a PushSecret asks for; those it does not know of stay."""
        has = as_mapping(described.get("Tags"))
        missing = [tag for tag in wished_tags(spec) if has.get(tag["Key"]) != tag["Value"]]
        if missing:
            self.ask(f"tagging secret {key!r}", "tag_resource", SecretId=name, Tags=missing)
        return bool(missing)

    def remove(self, key: str, property_path: str = "") -> None:
        """Delete the secret; with a property, that one alone as long as others are there.

        Compat: the peer deletes the whole secret also where another entry still uses it.
        """
        described, name = self._described(key), self.access.prefix + key
        if described is None or not is_ours(described.get("Tags")):
            return
        held = self._held(key)
        if property_path and held is not None:
            left = without_property(held, property_path)
            if left is not None:
                if left != held:
                    self.ask(f"writing secret {key!r}", "put_secret_value", SecretId=name, SecretBinary=left.reveal())
                return
        how: dict[str, Any] = {}
        if self.access.delete_without_recovery:
            how["ForceDeleteWithoutRecovery"] = True
        elif self.access.recovery_days:
            how["RecoveryWindowInDays"] = self.access.recovery_days
        self.ask(f"deleting secret {key!r}", "delete_secret", SecretId=name, **how)

    def _described(self, key: str) -> dict[str, Any] | None:
        """Give what is known of a secret; None where there is none, or it is scheduled for deletion."""
        try:
            answer = self.ask(f"describing secret {key!r}", "describe_secret", SecretId=self.access.prefix + key)
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None
        return None if answer.get("DeletedDate") else answer

    def _held(self, key: str) -> Plaintext | None:
        try:
            return self.fetch(key).document
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None


def _fetched(entry: Mapping[str, Any]) -> Fetched:
    text, binary = entry.get("SecretString"), entry.get("SecretBinary")
    document = text.encode() if isinstance(text, str) else bytes(binary or b"")
    return Fetched(document=Plaintext(document), version=str(entry.get("VersionId") or ""))


def _reading(key: str) -> str:
    return f"reading secret {key!r} from AWS Secrets Manager"
