"""ClusterPushSecret to PushSecrets, one per chosen namespace.

What never lives here: how that is done (`controllers.cluster_external_secrets`), what a PushSecret does then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from controllers.cluster_external_secrets import spreading
from secretsops.external.spread import PUSH_SECRETS

if TYPE_CHECKING:
    from controllers.loop import Part, Runtime


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the part that keeps ClusterPushSecrets."""
    return [spreading(runtime, PUSH_SECRETS, "cluster-push-secrets")]
