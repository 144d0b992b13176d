"""Labels and annotations of a SealedSecret itself, beside those of its template. Pure.

What never lives here: the template, scopes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secretsops.sealing.sealed_with import ANNOTATION


def decorated(
    body: dict[str, Any],
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    keep: bool,
    fingerprint: str = "",
) -> dict[str, Any]:
    """Give a SealedSecret with metadata of its own: those given, with `keep` the Secret's, and which key sealed it.

    kubeseal puts labels and annotations on the template alone (bitnami/sealed-secrets #1625), where Argo CD's waves
    and Helm's hooks don't find them.
    """
    metadata = dict(body["metadata"])
    template = body["spec"]["template"]["metadata"] if keep else {}
    own_labels = {**(template.get("labels") or {}), **labels}
    own = {**(template.get("annotations") or {}), **(metadata.get("annotations") or {}), **annotations}
    if fingerprint and body["spec"]["encryptedData"]:
        own[ANNOTATION] = fingerprint
    if own_labels:
        metadata["labels"] = own_labels
    if own:
        metadata["annotations"] = own
    return {**body, "metadata": metadata}
