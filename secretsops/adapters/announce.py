"""One POST to a webhook (Slack's or any other) or a push gateway, whose URL is a credential: never told.

Never here: what is said.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from secretsops.adapters.http import Http
from secretsops.errors import SecretsOpsError, UsageError, WorldFailed
from secretsops.secret import Plaintext
from secretsops.sources import Tls


def announce(url: Plaintext, body: bytes, content_type: str) -> None:
    """Post; the host alone is named in errors.

    Raises:
        UsageError: it is no http or https URL. WorldFailed: no answer, or one that is no success.
    """
    text = url.reveal().decode("utf-8", "replace").strip()
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.scheme not in ("http", "https") or not host:
        raise UsageError("the webhook is no http or https URL", reason="BadWebhook", hint="https://HOST/PATH")
    try:
        client = Http(text, Tls(), extra="vault", what="the webhook")
        answer = client.send("POST", text, headers={"Content-Type": content_type}, body=body)
    except SecretsOpsError as error:
        raise WorldFailed(f"the webhook at {host} did not take the summary", reason=error.reason) from None
    if not 200 <= answer.code < 300:
        raise WorldFailed(f"the webhook at {host} answered {answer.code}", reason="Denied", hint="check its URL")
