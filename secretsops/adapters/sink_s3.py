"""An S3 bucket as an escrow sink, through boto3: conditional writes, object lock, and the first version of a name.

With versioning a later write to a name hides what was there, and a deletion puts a marker over it; neither takes the
first version away, and that is what is read here. Object lock (COMPLIANCE) keeps it from being deleted by its version.

    s3://BUCKET/PREFIX?region=eu-west-1&endpoint=https://…   credential: accessKeyId, secretAccessKey, sessionToken

Reading needs s3:ListBucketVersions and s3:GetObjectVersion; writing also s3:PutObject and s3:PutObjectRetention.
Never here: what the files mean.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from secretsops.adapters.sinks import CANARY, SIZE_LIMIT, check_name, is_name
from secretsops.errors import BrokenEscrow, MissingExtra, UsageError, WorldFailed
from secretsops.ports import SinkAccess, Stored, Trial

CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 5, 30, 3
"""Seconds, seconds, and how often the SDK tries."""
PAGES = 200
"""Pages of 1,000 versions at most; past that somebody floods the bucket."""


class S3Sink:
    """One prefix of a bucket. Satisfies `secretsops.ports.Sink`."""

    def __init__(self, access: SinkAccess) -> None:
        """Prepare a client without a request; raises `UsageError` for a URL without a bucket, `MissingExtra`."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise MissingExtra("aws", needed_for="escrow in S3") from None
        parts = urlsplit(access.url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not parts.netloc or set(query) - {"region", "endpoint"}:
            raise UsageError(
                "an S3 sink is s3://BUCKET/PREFIX?region=…&endpoint=…", reason="BadSink", hint="name the bucket"
            )
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._days = access.retention_days
        texts = {name: value.reveal().decode("utf-8", "replace").strip() for name, value in access.credentials.items()}
        if set(texts) - {"accessKeyId", "secretAccessKey", "sessionToken"}:
            raise UsageError("an S3 credential has accessKeyId, secretAccessKey, sessionToken", reason="BadSink")
        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            s3={"addressing_style": "path"} if "endpoint" in query else {},
        )
        try:
            self._client = boto3.session.Session(
                aws_access_key_id=texts.get("accessKeyId"),
                aws_secret_access_key=texts.get("secretAccessKey"),
                aws_session_token=texts.get("sessionToken"),
                region_name=query.get("region"),
            ).client("s3", endpoint_url=query.get("endpoint"), config=config)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(f"no client for S3 ({type(error).__name__})", reason="BadSink", hint="?region=…") from None

    @property
    def name(self) -> str:
        """Give bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, name: str, content: bytes) -> Stored:
        """Write by `If-None-Match: *`; what counts is the first version of the name, whoever wrote it."""
        check_name(name)
        lock: dict[str, Any] = {}
        if self._days:
            until = dt.datetime.now(dt.UTC) + dt.timedelta(days=self._days)
            lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        problem = self._try(
            lambda: self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=content,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=checksum,
                **lock,
            )
        )
        # 412: there already; 409: another conditional write is under way. Both are settled by what is there.
        if problem not in ("", "PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
            raise self._failed("write to", problem)
        if self.get(name) != content:
            raise BrokenEscrow(
                f"{name} is in {self.name} already, with another content",
                reason="Exists",
                hint="does another cluster write to this prefix? give each its own",
            )
        return self.describe(name)

    def get(self, name: str) -> bytes:
        """Read the first version of a name."""
        version = self._first(name)
        answer: dict[str, Any] = {}

        def ask() -> None:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **_version(version))
            answer["content"] = found["Body"].read(SIZE_LIMIT + 1)

        if problem := self._try(ask):
            raise self._failed("read from", problem)
        content: bytes = answer["content"]
        if len(content) > SIZE_LIMIT:
            raise BrokenEscrow(f"{name} is larger than {SIZE_LIMIT >> 20} MiB", reason="TooLarge")
        return content

    def names(self, prefix: str = "") -> Sequence[str]:
        """List names, those under a deletion marker too."""
        start = len(self._prefix)
        found = {version["Key"][start:] for version in self._versions(prefix)}
        return sorted(name for name in found if is_name(name))

    def describe(self, name: str) -> Stored:
        """Give version id and retention by HeadObject."""
        version = self._first(name)
        answer: dict[str, Any] = {}

        def ask() -> None:
            answer.update(self._client.head_object(Bucket=self._bucket, Key=self._prefix + name, **_version(version)))

        if problem := self._try(ask):
            raise self._failed("ask", problem)
        until = answer.get("ObjectLockRetainUntilDate")
        if until is None or answer.get("ObjectLockMode") != "COMPLIANCE":
            return Stored(version=version)
        return Stored(version=version, retained_until=until.astimezone(dt.UTC).isoformat())

    def trial(self, canary: str) -> Trial:
        """Overwrite and delete a canary, also by its version; it must still be read as it was."""
        self.put(canary, CANARY)
        version = self._first(canary)
        where = {"Bucket": self._bucket, "Key": self._prefix + canary}
        for attempt in (
            lambda: self._client.put_object(**where, Body=CANARY + b"overwritten"),
            lambda: self._client.delete_object(**where),
            lambda: self._client.delete_object(**where, **_version(version)),
        ):
            self._try(attempt)
        try:
            kept = self._first(canary) == version and self.get(canary) == CANARY
        except BrokenEscrow:
            kept = False
        return Trial(problem="" if kept else "a version can be overwritten or deleted: switch object lock on")

    def _first(self, name: str) -> str:
        check_name(name)
        key = self._prefix + name
        mine = [version for version in self._versions(name) if version["Key"] == key]
        if not mine:
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing")
        # Newest come first; of equal times the last listed is the oldest.
        return str(min(reversed(mine), key=lambda version: version["LastModified"]).get("VersionId") or "null")

    def _versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        marker: dict[str, str] = {}
        for _ in range(PAGES):
            answer: dict[str, Any] = {}
            where = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **marker}
            if problem := self._try(lambda w=where, a=answer: a.update(self._client.list_object_versions(**w))):
                raise self._failed("list", problem)
            yield from answer.get("Versions") or []
            if not answer.get("IsTruncated"):
                return
            marker = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}
        raise WorldFailed(f"{self.name} has too many versions", reason="TooLarge", hint="who floods the bucket?")

    def _try(self, act: Callable[..., object]) -> str:
        """Do it and give the error code, "" when it went well."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            act()
        except ClientError as error:
            return str(error.response.get("Error", {}).get("Code") or "Unknown")
        except (BotoCoreError, OSError) as error:
            return type(error).__name__
        return ""

    def _failed(self, what: str, problem: str) -> WorldFailed:
        return WorldFailed(
            f"cannot {what} {self.name}: {problem}",
            reason="Unreachable" if problem.endswith("Error") else problem,
            hint="check bucket, region and the rights of this credential (see the manual of secretsops/escrow)",
        )


def _version(version: str) -> dict[str, str]:
    """Name a version in a request; a bucket without versioning calls its only one `null`."""
    return {"VersionId": version} if version != "null" else {}
