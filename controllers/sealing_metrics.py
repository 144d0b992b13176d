"""What the peer's dashboards and alerts ask for, under its names (`pkg/controller/metrics.go`, sealed-secrets v0.38.4).

Compat: `build_info` is 1, so that it can be joined with; upstream's is 0. Series per object are bounded. Our own
numbers are in `controllers.metrics` and name no object. Never here: HTTP.
"""

from __future__ import annotations

import threading

from controllers.metrics import Metrics, label_text
from secretsops import __version__
from secretsops.manifest import Manifest, ObjectKey

PREFIX = "sealed_secrets_controller_"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OBJECTS = 20_000
"""SealedSecrets with a series of their own at most; those that come after have none."""
INSTANCE = "app.kubernetes.io/instance"
_METHODS = frozenset({"get", "head", "post", "put", "patch", "delete", "options"})


class SealingMetrics:
    """Counts passes and errors, remembers each object's verdict, and times requests. Safe for several threads."""

    def __init__(self, *, omit_labels: bool) -> None:
        self._metrics = Metrics(PREFIX, BUCKETS)
        self._omit = omit_labels
        self._lock = threading.Lock()
        self._requests = 0
        self._verdicts: dict[ObjectKey, tuple[str, float]] = {}
        self._metrics.gauge("build_info", "Build information.", self._build)
        self._metrics.gauge(
            "unseal_requests_total", "Total number of sealed secret unseal requests", self._passes, counter=True
        )
        if not omit_labels:
            text = "Current SealedSecret condition status. Values are -1 (false), 0 (unknown or absent), 1 (true)"
            self._metrics.gauge("condition_info", text, self._conditions)

    def asked(self) -> None:
        """Count a pass."""
        with self._lock:
            self._requests += 1

    def failed(self, reason: str, namespace: str) -> None:
        """Count an error: fetch, status, unseal, unmanaged or update."""
        labels = {"reason": reason} if self._omit else {"reason": reason, "namespace": namespace}
        self._metrics.count("unseal_errors_total", "Total number of sealed secret unseal errors by reason", **labels)

    def verdict(self, sealed: Manifest, status: str) -> None:
        """Remember `True`, `False` or `Unknown` of an object."""
        labels = {
            "condition": "Synced",
            "name": sealed.name,
            "namespace": sealed.namespace,
            "ss_app_kubernetes_io_instance": sealed.labels.get(INSTANCE, ""),
        }
        with self._lock:
            if sealed.key in self._verdicts or len(self._verdicts) < OBJECTS:
                self._verdicts[sealed.key] = (label_text(labels), {"True": 1.0, "False": -1.0}.get(status, 0.0))

    def gone(self, key: ObjectKey) -> None:
        """Forget an object."""
        with self._lock:
            self._verdicts.pop(key, None)

    def answered(self, path: str, method: str, code: int, seconds: float) -> None:
        """Count a request of one of our paths."""
        verb = method.lower() if method.lower() in _METHODS else "unknown"
        text = "A counter for requests to the wrapped handler."
        self._metrics.count("http_requests_total", text, path=path, code=str(code), method=verb)
        text = "A histogram of latencies for requests."
        self._metrics.observe("http_request_duration_seconds", seconds, text, path=path, method=verb)

    def text(self) -> str:
        """Give everything in the exposition format."""
        return self._metrics.text()

    def _build(self) -> dict[str, float]:
        return {label_text({"revision": __version__}): 1.0}

    def _passes(self) -> dict[str, float]:
        with self._lock:
            return {"": float(self._requests)}

    def _conditions(self) -> dict[str, float]:
        with self._lock:
            return dict(self._verdicts.values())
