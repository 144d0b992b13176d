"""The flags of the sealing controller, upstream's names and values, and what they come to.

`pkg/flagenv` and `cmd/controller/main.go` of sealed-secrets v0.38.4: durations and switches in Go's spelling, each
flag also from `SEALED_SECRETS_<FLAG>`. A Deployment's arguments run unchanged; what has no meaning here is taken and
named in the README. Never here: acting on any of it.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from controllers.sealing_keys import RENEW_EVERY, KeyPolicy
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, UsageError
from secretsops.sealing.keys import DEFAULT_BITS, DEFAULT_TTL, KEY_PREFIX, KeyOrder

log = logging.getLogger(__name__)

SHARE_OF_LIFE = 2 / 3
"""Part of a certificate's life after which it is replaced where the period asked for is longer than that life."""
_PREFIX = re.compile(r"[a-z0-9-]{1,245}")
_RFC1123Z = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the sealing controller was asked for. `namespaces` holds "" alone where all are meant."""

    policy: KeyPolicy
    namespaces: tuple[str, ...] = ("",)
    label_selector: str = ""
    old_gc: bool = False
    update_status: bool = True
    skip_recreate: bool = False
    accept_v1: bool = True
    omit_labels: bool = False
    rate: int = 2
    burst: int = 2


class Switch(click.ParamType[bool]):
    """A Go boolean: `--flag`, `--flag=false`."""

    name = "bool"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Give the boolean (`strconv.ParseBool`)."""
        if isinstance(value, bool):
            return value
        if value not in _TRUE | _FALSE:
            self.fail(f"{value!r} is no boolean", param, ctx)
        return value in _TRUE


class Duration(click.ParamType[float]):
    """A Go duration, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except InvalidManifest:
            self.fail(f"{value!r} is no duration; as in 720h or 30m", param, ctx)


def _option(name: str, default: Any, text: str, *, also: str = "", **more: Any) -> Callable[[Any], Any]:
    names = [name, also] if also else [name]
    variables = ["SEALED_SECRETS_" + each[2:].upper().replace("-", "_") for each in names]
    return click.option(
        *names, default=default, envvar=variables, help=text, show_default=default not in ("", None), **more
    )


def _switch(name: str, text: str, *, default: bool) -> Callable[[Any], Any]:
    return _option(name, default, text, type=Switch(), is_flag=False, flag_value="true")


_FLAGS: tuple[Callable[[Any], Any], ...] = (
    _option("--key-prefix", KEY_PREFIX, "Name prefix of key Secrets; one of exactly this name is read unlabelled."),
    _option("--key-size", DEFAULT_BITS, "Bits of a sealing key."),
    _option("--key-ttl", "87600h", "How long a sealing certificate counts.", type=Duration()),
    _option("--my-cn", "", "Common name in sealing certificates."),
    _option(
        "--key-renew-period", "720h", "New sealing key this often; 0 is never.", also="--rotate-period", type=Duration()
    ),
    _option(
        "--key-order-priority",
        KeyOrder.CERTIFICATE.value,
        "What makes a key the newest: CertNotBefore or SecretCreationTimestamp.",
    ),
    _option("--key-cutoff-time", "", "Replace a key from before this RFC 1123 time (numeric zone) at start."),
    _option("--privatekey-annotations", "", "Annotations of new key Secrets, k=v,k=v."),
    _option("--privatekey-labels", "", "Labels of new key Secrets, k=v,k=v."),
    _switch("--accept-deprecated-v1-data", "Open spec.data as of before 2018.", default=True),
    _switch("--all-namespaces", "Look after every namespace, else our own.", default=True),
    _option("--additional-namespaces", "", "Look after our own and these namespaces alone, a,b."),
    _option("--label-selector", "", "Look after SealedSecrets with these labels alone."),
    _option("--rate-limit", 2, "Requests a second that verify and rotate answer."),
    _option("--rate-limit-burst", 2, "Requests beyond that in a burst."),
    _switch("--metrics-omit-secret-labels", "No metrics that name objects.", default=False),
    _switch("--old-gc-behavior", "Delete the Secret ourselves when its SealedSecret goes.", default=False),
    _switch("--update-status", "Write status.", default=True),
    _switch("--watch-for-secrets", "Accepted: key Secrets are always watched.", default=True),
    _switch("--skip-recreate", "Do not watch Secrets: deleted or changed ones stay so.", default=False),
    _option("--max-unseal-retries", 5, "Accepted without effect: nothing is given up.", hidden=True),
    _option("--kubeclient-qps", "5", "Accepted without effect.", hidden=True),
    _option("--kubeclient-burst", 10, "Accepted without effect.", hidden=True),
    _option("--read-timeout", "2m", "Accepted without effect.", hidden=True, type=Duration()),
    _option("--write-timeout", "2m", "Accepted without effect.", hidden=True, type=Duration()),
    _option("--log-info-stdout", "true", "Accepted without effect.", hidden=True, is_flag=False, flag_value="true"),
)


def sealing_flags(command: Any) -> Any:
    """Decorate a click command with every flag."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def read_settings(namespace: str, options: Mapping[str, Any]) -> Settings:
    """Give what the options, by their click names, ask for; a missing one has its default.

    Raises:
        UsageError: a value that makes no sense.
    """
    listed = [each.strip() for each in str(options.get("additional_namespaces") or "").split(",") if each.strip()]
    namespaces: tuple[str, ...] = ("",)
    if listed:
        namespaces = tuple(dict.fromkeys([namespace, *listed]))
    elif not options.get("all_namespaces", True):
        namespaces = (namespace,)
    if options.get("watch_for_secrets") is False:
        log.warning("--watch-for-secrets=false has no effect: key Secrets are always watched")
    rate, burst = options.get("rate_limit", 2), options.get("rate_limit_burst", 2)
    if rate < 1 or burst < 0:
        raise UsageError("--rate-limit is at least 1, its burst at least 0", reason="Usage", hint="2 is the default")
    return Settings(
        policy=read_policy(namespace, options),
        namespaces=namespaces,
        label_selector=str(options.get("label_selector") or ""),
        old_gc=bool(options.get("old_gc_behavior", False)),
        update_status=bool(options.get("update_status", True)),
        skip_recreate=bool(options.get("skip_recreate", False)),
        accept_v1=bool(options.get("accept_deprecated_v1_data", True)),
        omit_labels=bool(options.get("metrics_omit_secret_labels", False)),
        rate=rate,
        burst=burst,
    )


def read_policy(namespace: str, options: Mapping[str, Any]) -> KeyPolicy:
    """Give the policy of keys.

    Compat: a certificate that would end before it is replaced is replaced at two thirds of its life; upstream lets
    clients meet an expired one.

    Raises:
        UsageError: a key smaller than 2048 bits, a bad prefix, time or list of labels.
    """
    bits = int(options.get("key_size") or DEFAULT_BITS)
    if bits < 2048:
        raise UsageError(
            f"--key-size {bits} is no safe size", reason="Usage", hint="2048 at least; 4096 is the default"
        )
    prefix = str(options.get("key_prefix") or KEY_PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(f"--key-prefix {prefix[:64]!r} is no name", reason="Usage", hint="a-z, 0-9 and -, 245 at most")
    ttl = options.get("key_ttl")
    life = DEFAULT_TTL.total_seconds() if ttl is None else float(ttl)
    if life <= 0:
        raise UsageError("--key-ttl is not positive", reason="Usage", hint="87600h is the default")
    renew = options.get("key_renew_period")
    every = RENEW_EVERY if renew is None else float(renew)
    if every > life:
        log.warning("--key-renew-period is longer than --key-ttl: keys are renewed at two thirds of their life")
        every = life * SHARE_OF_LIFE
    return KeyPolicy(
        namespace=namespace,
        prefix=prefix,
        bits=bits,
        ttl=dt.timedelta(seconds=life),
        renew_every=every,
        common_name=str(options.get("my_cn") or ""),
        cutoff=_cutoff(str(options.get("key_cutoff_time") or "")),
        order=_order(str(options.get("key_order_priority") or KeyOrder.CERTIFICATE)),
        labels=_pairs(str(options.get("privatekey_labels") or ""), "--privatekey-labels"),
        annotations=_pairs(str(options.get("privatekey_annotations") or ""), "--privatekey-annotations"),
    )


def _cutoff(text: str) -> dt.datetime | None:
    if not text:
        return None
    wrong = UsageError(
        f"--key-cutoff-time {text[:64]!r} is no RFC 1123 time",
        reason="Usage",
        hint="as in 'Mon, 02 Jan 2006 15:04:05 -0700'",
    )
    if not _RFC1123Z.fullmatch(text):
        raise wrong
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise wrong from None


def _order(text: str) -> KeyOrder:
    """Compat: an unknown order counts as the default, with a warning, as upstream has it."""
    try:
        return KeyOrder(text)
    except ValueError:
        log.warning("--key-order-priority is unknown; keys are ordered by CertNotBefore")
        return KeyOrder.CERTIFICATE


def _pairs(text: str, flag: str) -> dict[str, str]:
    """Compat: a value may hold `=`; an entry without one is refused at start, where upstream panics at a renewal."""
    found: dict[str, str] = {}
    for entry in [each for each in text.split(",") if each.strip()]:
        name, sign, value = entry.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"{flag}: {entry[:64]!r} is no pair", reason="Usage", hint="write name=value,name=value")
        found[name.strip()] = value
    return found
