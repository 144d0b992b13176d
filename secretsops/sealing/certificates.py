"""Where the certificate to seal with comes from: a file, a URL, the cluster; pinned, and not past its end.

What never lives here: what a certificate is (`certificate.py`), how the controller is reached (`service.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from secretsops.errors import InvalidManifest, Refused, UsageError, WorldFailed
from secretsops.files import read_input
from secretsops.sealing.certificate import Certificate, read_certificate

if TYPE_CHECKING:
    import datetime as dt

    from secretsops.ports import Doors
    from secretsops.sealing.options import Access, CertificateWishes, Named

CERTIFICATE_LIMIT = 1024 * 1024
"""Bytes of a certificate answer at most; one is 2 KiB."""
URL_TIMEOUT = 30.0
_NAMED = r"([a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?)=(.+)"


def obtain(wishes: CertificateWishes, access: Access, doors: Doors, say: Callable[[str], None]) -> list[Named]:
    """Give every certificate that is asked for, in order; `say` gets warnings.

    Raises:
        UsageError: several certificates without names, or two of one name.
        Refused: reason `CertificateExpired` or `PinMismatch`.
    """
    if not wishes.sources:
        from secretsops.sealing.service import Controller

        # Compat: kubeseal knows no ConfigMap; with it the proxy is asked at once.
        named = [("", Controller(access, doors).certificate(proxy_only=wishes.kubeseal))]
    else:
        named = [_from_source(source, wishes) for source in wishes.sources]
    names = [name for name, _ in named]
    if len(set(names)) < len(names) or ("" in names and len(names) > 1):
        raise UsageError(
            "several --cert need a name each, and each its own",
            reason="CertificateNames",
            hint="--cert east=east.pem --cert west=west.pem",
        )
    for name, certificate in named:
        _accept(certificate, f"{name}: " if name else "", wishes, doors.clock.now(), say)
    return named


def obtain_one(wishes: CertificateWishes, access: Access, doors: Doors, say: Callable[[str], None]) -> Certificate:
    """Give the one certificate of a command that writes one object; raises `UsageError` where several are named."""
    found = obtain(wishes, access, doors, say)
    if len(found) != 1:
        raise UsageError("this takes one --cert", reason="SeveralCertificates", hint="call it once per cluster")
    return found[0][1]


def _accept(
    certificate: Certificate, who: str, wishes: CertificateWishes, now: dt.datetime, say: Callable[[str], None]
) -> None:
    if wishes.pins and certificate.fingerprint not in wishes.pins:
        raise Refused(
            f"{who}the certificate's key is {certificate.fingerprint}, which --cert-fingerprint does not name",
            reason="PinMismatch",
            hint="was the key renewed? compare with `seal keys list`, then change the pin",
        )
    if not wishes.allow_expired:
        certificate.refuse_expired(now)
    warning = certificate.ends_soon(now)
    if warning and not wishes.kubeseal:
        say(f"warning: {who}{warning}")


def _from_source(source: str, wishes: CertificateWishes) -> Named:
    name, found = "", None
    if "=" in source and not wishes.kubeseal and not Path(source).exists():
        found = re.fullmatch(_NAMED, source, re.DOTALL)
    if found is not None:
        name, source = found[1], found[2]
    text = _download(source) if "://" in source else read_input(source)
    try:
        return name, read_certificate(text)
    except InvalidManifest as error:
        raise InvalidManifest(error.problem, where=source, reason=error.reason, hint=error.hint) from None


def _download(url: str) -> bytes:
    if not url.startswith(("https://", "http://", "file://")):
        raise UsageError(f"{url}: only https, http and file URLs", reason="UnknownScheme", hint="name a file instead")
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=URL_TIMEOUT) as answer:  # noqa: S310 -- the schemes are checked above
            content: bytes = answer.read(CERTIFICATE_LIMIT)
    except (URLError, OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise WorldFailed(f"cannot fetch {url}: {cause}", reason="Unreachable", hint="is the address right?") from None
    return content
