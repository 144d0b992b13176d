"""Plain HTTP to the sandbox's own servers, past any proxy of the environment. Never here: TLS, retries."""

from __future__ import annotations

import urllib.error
import urllib.request

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def send(
    method: str, url: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    """Give (status, body) of one request; an OSError when nobody answers."""
    request = urllib.request.Request(url, body, headers or {}, method=method)  # noqa: S310 -- loopback, our own URL
    try:
        with _DIRECT.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def answers(url: str) -> bool:
    """Whether a server answers at all, with 2xx."""
    try:
        return send("GET", url)[0] < 300
    except OSError:
        return False
