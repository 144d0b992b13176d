"""What sealing offers over HTTP, as upstream's clients expect it: the certificate, and whether a SealedSecret opens.

Paths and codes are upstream's (`pkg/controller/server.go`, v0.38.4). No answer ever holds plaintext (SECURITY.md §5);
`verify` takes the scope from annotations alone, renders no template and says yes or no.
Never here: sockets and limits (`http.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controllers.http import Reply, Route
from secretsops.errors import InvalidManifest, SecretsOpsError
from secretsops.manifest import Manifest, load_all
from secretsops.ports import Clock
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import SEALED_SECRET, open_sealed


def routes(ring: Callable[[], KeyRing], clock: Clock) -> Mapping[str, Route]:
    """Give the routes by path."""

    def certificate(_body: bytes) -> Reply:
        key = ring().sealing_key(clock.now())
        if key is None:
            return Reply(code=503, body=b"there is no key to seal with yet\n")
        return Reply(code=200, body=key.certificate.pem, content_type="application/x-pem-file")

    def verify(body: bytes) -> Reply:
        try:
            opens = _opens(body, ring())
        except SecretsOpsError:
            opens = False
        return Reply(code=200 if opens else 409)

    return {
        "/v1/cert.pem": Route(method="GET", answer=certificate),
        "/v1/verify": Route(method="POST", answer=verify, limited=True),
    }


def _opens(body: bytes, ring: KeyRing) -> bool:
    """Say whether every SealedSecret of a document opens; raises where one does not."""
    sealed = load_all(body, source="request")
    if not sealed or any(manifest.kind != SEALED_SECRET for manifest in sealed):
        return False
    for manifest in sealed:
        open_sealed(_without_template_data(manifest), ring)
    return True


def _without_template_data(sealed: Manifest) -> Manifest:
    """Give the SealedSecret as it is checked: a caller's template is not rendered."""
    template = sealed.spec.get("template") or {}
    if not isinstance(sealed.body.get("spec"), dict) or not isinstance(template, dict):
        raise InvalidManifest("spec or spec.template is not a mapping", reason="InvalidSealedSecret")
    kept = {key: value for key, value in template.items() if key != "data"}
    return Manifest({**sealed.body, "spec": {**sealed.spec, "template": kept}})
