"""AWS Systems Manager Parameter Store: single and batched reads, searches, tags, and what PushSecrets write.

What never lives here: identities (`aws_identity.py`), property selection.
"""

from __future__ import annotations

import base64
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

PUSH_FIELDS = frozenset({"tags", "description", "kmsKeyID", "secretType", "tier", "encodeAsDecoded"})
DEFAULT_KEY = "alias/aws/ssm"


class ParameterStoreSource(AwsSource):
    """Parameter Store of one region with one identity. Satisfies `secretsops.ports.SecretSource`."""

    service = "ssm"
    right = "ssm:GetParameter"
    batch = 10

    # --- Reading ---------------------------------------------------------------------------------------

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one parameter, decrypted; `version` is a number or a label.

        Raises:
            StoreRefused: `NotFound`, `Denied` or `Invalid`.
            StoreUnavailable: no usable answer.
        """
        name = self.access.prefix + key + (f":{version}" if version else "")
        answer = self.ask(_reading(key), "get_parameter", Name=name, WithDecryption=True)
        return _fetched(answer.get("Parameter") or {})

    def fetch_many(self, asks: Sequence[Ask]) -> Mapping[Ask, Fetched | StoreRefused]:
        """Read the current versions of up to 10 parameters; empty where we may not read all of them at once."""
        names = {ask: self.access.prefix + ask.key for ask in asks if not ask.version and not ask.metadata}
        answers = self._many(list(names.values()))
        return {ask: answers[name] for ask, name in names.items() if name in answers}

    def _many(self, names: Sequence[str]) -> dict[str, Fetched | StoreRefused]:
        # ARNs are answered under other names; and a name twice is refused.
        asked = [name for name in dict.fromkeys(names) if not name.startswith("arn:")]
        if not asked:
            return {}
        try:
            answer = self.ask("reading several parameters", "get_parameters", Names=asked, WithDecryption=True)
        except StoreRefused:
            return {}
        result: dict[str, Fetched | StoreRefused] = {
            str(entry.get("Name")): _fetched(entry) for entry in answer.get("Parameters") or []
        }
        for name in answer.get("InvalidParameters") or []:
            result[str(name)] = StoreRefused(
                f"{_reading(str(name))}: it does not exist", reason="NotFound", hint="check name and region"
            )
        return result

    def metadata(self, key: str, version: str = "") -> Fetched:  # noqa: ARG002 - tags are the parameter's
        """Read the tags."""
        tags = self._tags(key)
        if tags is None:
            raise StoreRefused(f"{_reading(key)}: it does not exist", reason="MetadataMissing", hint="check its name")
        return Fetched(document=Plaintext(encode(as_mapping(tags), html=False).encode()))

    def find(self, query: Query) -> Mapping[str, Fetched]:
        """Read everything below a path whose name fits, or what carries the tags; names are whole.

        Compat: a name wins over tags; a search stays below the store's prefix, which the peer ignores.
        """
        start = self.access.prefix + query.path
        by_path = query.name or not query.tags
        result = self._by_path(start, query.name) if by_path else self._by_tags(start, query.tags)
        return dict(sorted(result.items()))

    def _by_path(self, start: str, pattern: str) -> dict[str, Fetched]:
        result: dict[str, Fetched] = {}
        path = start if start.startswith("/") else "/"
        arguments: dict[str, Any] = {"Path": path, "Recursive": True, "WithDecryption": True, "MaxResults": 10}
        try:
            for page in self.pages("reading parameters by path", "get_parameters_by_path", **arguments):
                for entry in page.get("Parameters") or []:
                    name = str(entry.get("Name"))
                    if name.startswith(start) and (not pattern or found(pattern, name)):
                        result[name] = _fetched(entry)
                if len(result) > MATCH_LIMIT:
                    raise too_many(f"more than {MATCH_LIMIT} parameters fit")
        except StoreRefused as error:
            if error.reason != "Denied":
                raise
            # Compat: whoever may not read by path may still list, and read one by one.
            filters = [{"Key": "Path", "Option": "Recursive", "Values": [path]}] if path != "/" else []
            return self._all(
                [n for n in self._listed(filters) if n.startswith(start) and (not pattern or found(pattern, n))]
            )
        return result

    def _by_tags(self, start: str, tags: Mapping[str, str]) -> dict[str, Fetched]:
        filters: list[dict[str, Any]] = [
            {"Key": f"tag:{key}", "Option": "Equals", "Values": [value]} for key, value in sorted(tags.items())
        ]
        if start.startswith("/") and start != "/":
            filters.append({"Key": "Path", "Option": "Recursive", "Values": [start.rstrip("/")]})
        return self._all([name for name in self._listed(filters) if name.startswith(start)])

    def _listed(self, filters: Sequence[Mapping[str, Any]]) -> list[str]:
        names: list[str] = []
        arguments = {"ParameterFilters": list(filters)} if filters else {}
        for page in self.pages("listing parameters", "describe_parameters", MaxResults=50, **arguments):
            names += [str(entry.get("Name")) for entry in page.get("Parameters") or []]
            if len(names) > MATCH_LIMIT:
                raise too_many(f"more than {MATCH_LIMIT} parameters fit")
        return names

    def _all(self, names: Sequence[str]) -> dict[str, Fetched]:
        result: dict[str, Fetched] = {}
        for start in range(0, len(names), self.batch):
            some = names[start : start + self.batch]
            answers = self._many(some)
            for name in some:
                answer = answers.get(name)
                if answer is None:
                    answer = self._unless_gone(name)
                if isinstance(answer, Fetched):
                    result[name] = answer
        return result

    def _unless_gone(self, name: str) -> Fetched | None:
        try:
            answer = self.ask(_reading(name), "get_parameter", Name=name, WithDecryption=True)
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None
        return _fetched(answer.get("Parameter") or {})

    # --- Writing ---------------------------------------------------------------------------------------

    def exists(self, key: str, property_path: str = "") -> bool:
        """Say whether there is a parameter, and in it the property."""
        held = self._held(key)
        return held is not None and (not property_path or has_property(held, property_path))

    def put(self, put: Put) -> bool:
        """Write the parameter; the same value is not written again.

        Compat: the type is `String`, as with the peer, unless metadata asks for `SecureString`; the values of a whole
        Secret are base64 unless `encodeAsDecoded`.

        Raises:
            StoreRefused: `NotOurs`, `Invalid`, `Denied`, `Unsupported` for metadata that is not built.
        """
        spec = wishes(put.metadata, PUSH_FIELDS)
        old, name = self._held(put.key), self.access.prefix + put.key
        if old is not None and not is_ours(self._tags(put.key)):
            raise not_ours(put.key)
        new = (
            put.value
            if isinstance(put.value, Plaintext)
            else _whole(put.value, decoded=bool(spec.get("encodeAsDecoded")))
        )
        if put.property:
            new = with_property(old, put.property, new)
        if old is not None and old == new:
            return False
        arguments: dict[str, Any] = {
            "Name": name,
            "Value": new.reveal().decode("utf-8", "replace"),
            "Type": str(spec.get("secretType") or "String"),
            "Overwrite": old is not None,
        }
        if arguments["Type"] == "SecureString":
            arguments["KeyId"] = str(spec.get("kmsKeyID") or DEFAULT_KEY)
        if spec.get("description"):
            arguments["Description"] = str(spec["description"])
        tier = spec.get("tier")
        if isinstance(tier, dict) and tier.get("type"):
            arguments["Tier"] = str(tier["type"])
            if tier.get("policies"):
                arguments["Policies"] = encode(tier["policies"])
        if old is None:
            arguments["Tags"] = wished_tags(spec)
        self.ask(f"writing parameter {put.key!r}", "put_parameter", **arguments)
        return True

    def remove(self, key: str, property_path: str = "") -> None:
        """Delete the parameter; with a property, that one alone as long as others are there."""
        held, name = self._held(key), self.access.prefix + key
        if held is None or not is_ours(self._tags(key)):
            return
        left = without_property(held, property_path) if property_path else None
        if left is None:
            self.ask(f"deleting parameter {key!r}", "delete_parameter", Name=name)
        elif left != held:
            text = left.reveal().decode("utf-8", "replace")
            self.ask(f"writing parameter {key!r}", "put_parameter", Name=name, Value=text, Overwrite=True)

    def _held(self, key: str) -> Plaintext | None:
        try:
            return self.fetch(key).document
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None

    def _tags(self, key: str) -> Any:
        """Give the tags; None where there is no such parameter."""
        try:
            answer = self.ask(
                f"reading tags of parameter {key!r}",
                "list_tags_for_resource",
                ResourceType="Parameter",
                ResourceId=self.access.prefix + key,
            )
        except StoreRefused as error:
            if error.reason not in {"NotFound", "Invalid"}:
                raise
            return None
        return answer.get("TagList") or []


def _whole(values: Mapping[str, Plaintext], *, decoded: bool) -> Plaintext:
    if decoded:
        return as_json(values)
    return as_json({name: Plaintext(base64.b64encode(value.reveal())) for name, value in values.items()})


def _fetched(entry: Mapping[str, Any]) -> Fetched:
    version = entry.get("Version")
    return Fetched(document=Plaintext(str(entry.get("Value") or "").encode()), version=str(version or ""))


def _reading(key: str) -> str:
    return f"reading parameter {key!r} from AWS Parameter Store"
