"""Our rules in the shape the recorded cases call them: `health(case)` as the replay toolkit describes it."""

from __future__ import annotations

from typing import Any

from recovery.app import Health, HealthState
from recovery.health import aggregate, assess
from recovery.marks import is_hook, is_skipped
from secretsops.manifest import Manifest


def health(case: dict[str, Any]) -> dict[str, Any]:
    """Give `status` and `message` of an object or of an application's resources."""
    if case.get("healthLua"):
        raise NotImplementedError("user Lua is not interpreted")
    if "object" in case:
        verdict = assess(Manifest(case["object"]), built_in_only=case.get("builtinOnly", False))
        return {"status": None} if verdict is None else {"status": verdict.state.value, "message": verdict.message}
    verdicts = []
    for resource in case["application"]["resources"]:
        target, live = resource.get("target"), resource.get("live")
        manifest = Manifest(live or target)
        if is_hook(manifest) or is_skipped(manifest):
            continue
        verdicts.append((manifest.key, assess(Manifest(live)) if live else Health(HealthState.MISSING)))
    total = aggregate(verdicts)
    return {"status": total.state.value, "message": total.message}
