"""Upstream's flags: a Deployment's arguments run unchanged, values in Go's spelling, nonsense refused at start."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import click
import pytest
from click.testing import CliRunner

from controllers.cli import controller
from controllers.sealing_flags import Settings, read_settings
from secretsops.errors import UsageError
from secretsops.sealing.keys import KeyOrder

CHART = """--update-status --key-prefix sealed-secrets-key --key-renew-period 720h --key-ttl 87600h
 --key-cutoff-time=Mon,\u00a002\u00a0Jan\u00a02006\u00a015:04:05\u00a0-0700 --rate-limit 2 --rate-limit-burst 2
 --additional-namespaces a,b,a --privatekey-annotations x=1 --privatekey-labels team=blue,eq=a=b --log-info-stdout
 --log-level WARN --log-format json --max-unseal-retries 5 --watch-for-secrets --skip-recreate --kubeclient-qps 5
 --kubeclient-burst 10 --listen-addr :8080 --listen-metrics-addr :8081 --read-timeout 2m --write-timeout 2m
 --metrics-omit-secret-labels --old-gc-behavior=false --accept-deprecated-v1-data=true --all-namespaces
 --label-selector app=x --key-order-priority SecretCreationTimestamp --key-size 4096 --my-cn shop"""
"""What chart 2.19.1 gives its container, every value set, and the flags it has no value for."""


def parsed(*arguments: str) -> dict[str, Any]:
    return dict(controller.make_context("controller", list(arguments)).params)


def settings(*arguments: str) -> Settings:
    return read_settings("home", parsed(*arguments))


def test_a_deployments_arguments_run_unchanged() -> None:
    """Switches without a value, values after a blank or `=`, flags without meaning here."""
    found = settings(*[word.replace("\u00a0", " ") for word in re.split(r"[ \n]+", CHART)])
    assert found.namespaces == ("home", "a", "b")
    assert (found.update_status, found.skip_recreate, found.old_gc, found.omit_labels) == (True, True, False, True)
    assert found.label_selector == "app=x"
    assert found.policy.order is KeyOrder.CREATION
    assert found.policy.labels == {"team": "blue", "eq": "a=b"}
    assert found.policy.cutoff == dt.datetime(2006, 1, 2, 22, 4, 5, tzinfo=dt.UTC)
    assert found.policy.common_name == "shop"


def test_defaults_are_upstreams() -> None:
    """But key Secrets are watched."""
    found = settings()
    assert found.namespaces == ("",)
    assert (found.policy.renew_every, found.policy.bits) == (720 * 3600, 4096)
    assert found.policy.ttl == dt.timedelta(hours=87600)
    assert parsed()["watch_for_secrets"] is True
    assert settings("--all-namespaces=false").namespaces == ("home",)
    assert settings("--rotate-period", "1h").policy.renew_every == 3600.0


def test_the_environment_names_flags_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag beats it. Compat: a value that makes no sense is refused, where upstream ignores it in silence."""
    monkeypatch.setenv("SEALED_SECRETS_KEY_RENEW_PERIOD", "48h")
    monkeypatch.setenv("SEALED_SECRETS_UPDATE_STATUS", "false")
    assert settings().policy.renew_every == 48 * 3600.0
    assert settings().update_status is False
    assert settings("--key-renew-period=1h", "--update-status").policy.renew_every == 3600.0
    monkeypatch.setenv("SEALED_SECRETS_KEY_RENEW_PERIOD", "soon")
    with pytest.raises(click.BadParameter):
        parsed()


def test_no_client_meets_an_expired_certificate() -> None:
    """Compat: a period longer than a certificate's life becomes two thirds of that life."""
    assert settings("--key-renew-period=720h", "--key-ttl=48h").policy.renew_every == 32 * 3600.0
    assert settings("--key-renew-period=0", "--key-ttl=48h").policy.renew_every == 0.0


@pytest.mark.parametrize(
    "given",
    [
        "--key-cutoff-time=Fri, 99 Jan 2100 00:00:00 +0000",
        "--key-cutoff-time=2024-01-01",
        "--privatekey-annotations==x",
        "--key-prefix=a/b",
        f"--key-prefix={'a' * 246}",
        "--rate-limit=0",
        "--key-ttl=0",
    ],
)
def test_nonsense_is_refused_at_start(given: str) -> None:
    """Some of it upstream takes until the next renewal, and then panics (#1386)."""
    with pytest.raises(UsageError) as caught:
        settings(given)
    assert caught.value.hint


def test_the_version_line_is_what_upstreams_suite_looks_for() -> None:
    """`^NAME version: (vX.Y.Z|40-hex)(\\+dirty)?`, on standard output."""
    done = CliRunner().invoke(controller, ["--version"], obj=object())
    assert re.match(r"^controller version: (v[0-9]+\.[0-9]+\.[0-9]+|[0-9a-f]{40})(\+dirty)?", done.stdout)
