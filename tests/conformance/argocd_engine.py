"""Our rules in the shape the recorded cases call them: `health(case)` as the replay toolkit describes it."""

from __future__ import annotations

from typing import Any

from recovery.app import Health, HealthState
from recovery.health import aggregate, assess
from recovery.judge import judge_of
from recovery.marks import is_hook, is_skipped
from recovery.setup import Settings
from secretsops.adapters.rendering import RenderWorkers
from secretsops.manifest import Manifest

RENDERER = RenderWorkers()


def health(case: dict[str, Any]) -> dict[str, Any]:
    """Give `status` and `message` of an object or of an application's resources."""
    judge = judge_of(Settings(health=case.get("healthLua") or {}), RENDERER)
    if "object" in case:
        manifest = Manifest(case["object"])
        verdict = assess(manifest, built_in_only=True) if case.get("builtinOnly") else judge(manifest)
        return {"status": None} if verdict is None else {"status": verdict.state.value, "message": verdict.message}
    verdicts = []
    for resource in case["application"]["resources"]:
        target, live = resource.get("target"), resource.get("live")
        manifest = Manifest(live or target)
        if is_hook(manifest) or is_skipped(manifest):
            continue
        verdicts.append((manifest.key, judge(Manifest(live)) if live else Health(HealthState.MISSING)))
    total = aggregate(verdicts)
    return {"status": total.state.value, "message": total.message}
