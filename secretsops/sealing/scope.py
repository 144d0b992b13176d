"""Scopes of a SealedSecret: which renames it survives, as annotations and as the OAEP label. Pure.

The rules are `pkg/apis/sealedsecrets/v1alpha1/sealedsecret_expansion.go` of sealed-secrets v0.38.4.

    >>> Scope.STRICT.label("shop", "db")
    b'shop/db'

What never lives here: encryption, keys, YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

PREFIX = "sealedsecrets.bitnami.com/"
CLUSTER_WIDE = PREFIX + "cluster-wide"
NAMESPACE_WIDE = PREFIX + "namespace-wide"


class Scope(StrEnum):
    """How far a SealedSecret may move and still open; the values are those of `--scope`."""

    STRICT = "strict"
    NAMESPACE_WIDE = "namespace-wide"
    CLUSTER_WIDE = "cluster-wide"

    @classmethod
    def of(cls, annotations: Mapping[str, object]) -> Scope:
        """Read the scope annotations; cluster-wide wins, and only the exact text `true` counts."""
        if annotations.get(CLUSTER_WIDE) == "true":
            return cls.CLUSTER_WIDE
        return cls.NAMESPACE_WIDE if annotations.get(NAMESPACE_WIDE) == "true" else cls.STRICT

    def label(self, namespace: str, name: str) -> bytes:
        """Give the OAEP label that binds a ciphertext to its place."""
        if self is Scope.CLUSTER_WIDE:
            return b""
        return (namespace if self is Scope.NAMESPACE_WIDE else f"{namespace}/{name}").encode()

    def annotations(self) -> dict[str, str]:
        """Give the annotation that declares this scope; none for strict."""
        return {} if self is Scope.STRICT else {PREFIX + self.value: "true"}

    def applied_to(self, annotations: Mapping[str, str]) -> dict[str, str]:
        """Give `annotations` with the scope annotations replaced by this scope's."""
        kept = {key: value for key, value in annotations.items() if key not in {CLUSTER_WIDE, NAMESPACE_WIDE}}
        return kept | self.annotations()
