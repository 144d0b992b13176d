"""The spine of a drill: reach a state, prove isolation, let the disaster happen, recover, check, clean up.

It runs the code of a real disaster and fails closed: what was not reached, proven, checked or cleaned up never counts
as passed. Never here: what a step does (`acts/`, `faults/`, `checks/`), arithmetic (`timeline.py`), judgement
(`report.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources.abc import Traversable
from typing import Any

from drills import cleaning, isolation
from drills.display import Display
from drills.path import critical_path
from drills.report import ABORTED, KEPT, SIMULATED, Check, Goal, Report, judge
from drills.runs import Record
from drills.sandbox.world import Sandbox
from drills.scenario import Scenario, Step
from drills.scene import Scene
from drills.timeline import (
    CHECKS,
    CLEANUP,
    DECLARED,
    DISASTER,
    DISRUPTED,
    GIVEN,
    ISOLATION,
    RECOVER,
    RECOVERED,
    START,
    Span,
    Timeline,
)
from secretsops.errors import Refused, SecretsOpsError, WorldFailed
from secretsops.ports import Doors


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a drill is carried out. `keep` leaves the world standing, so that clean-up is not proven."""

    run_id: str = ""
    keep: bool = False
    record: Record | None = field(default=None, compare=False)


class Drill:
    """One drill while it runs; `run` carries it out."""

    def __init__(
        self,
        scenario: Scenario,
        files: Traversable,
        *,
        doors: Doors,
        world: Sandbox,
        show: Display,
        options: Options | None = None,
    ) -> None:
        self.scenario, self.world, self.show = scenario, world, show
        self.options = options or Options()
        self.scene = Scene(scenario, files, doors=doors, world=world, show=show)
        self._started = doors.clock.now()
        self._spans: list[Span] = []
        self._proofs: list[isolation.Proof] = []
        self._cleaned: list[isolation.Proof] = []
        self._stand_in = False
        self._simulated = True
        self._unreached = self._broken = self._broken_step = ""

    def run(self) -> Report:
        """Carry the drill out up to the first step that fails, make every check, clean up, and judge.

        Raises:
            Refused: reason `Production`, before anything was done.
        """
        # 1. The state before. 2. Isolation. 3. Disaster and recovery. 4. Checks. 5. Clean-up. 6. Judge.
        checks: list[Check] = []
        try:
            isolation.refuse_production(self.scene)
            if self._reach():
                self._rehearse()
            checks = self._checks()
        except KeyboardInterrupt:
            self._unreached = ABORTED
            checks = [Check(name=step.name, ok=None, message=ABORTED) for step in self.scenario.checks]
        finally:
            self._clean()
        return self._judged(checks)

    # --- phases ----------------------------------------------------------------------------------------

    def _reach(self) -> bool:
        """Start the world, reach the state that is given, look, prove isolation; whether the disaster may come."""
        self._unreached = self._step("start", START, "clusters, OpenBao, AWS and a Git server on loopback", self._start)
        for step in self.scenario.given:
            self._unreached = self._unreached or self._act(step, GIVEN)
        self._unreached = self._unreached or self._step(
            "observe", GIVEN, "what there is before the disaster", self._observe
        )
        self._unreached = self._unreached or self._step(
            "isolate", ISOLATION, "that the drill touches nothing else", self._isolate
        )
        return not self._unreached

    def _rehearse(self) -> None:
        """Let everything go wrong as told, then recover; stops at the first step that fails."""
        zero = self.scene.now()
        self.scene.apps.clear()
        self.scene.waits.clear()
        self.scene.rebuilt = None
        self.scene.mark(DISRUPTED)
        for step in self.scenario.disaster:
            self.scene.clock.sleep(max(0.0, zero + step.at - self.scene.now()))
            if self._failed(step, self._act(step, DISASTER)):
                return
        self.scene.mark(DECLARED)
        for step in self.scenario.recover:
            if self._failed(step, self._act(step, RECOVER)):
                return
        self.scene.mark(RECOVERED)

    def _checks(self) -> list[Check]:
        """Make every check, also after a failure; those of a disaster that never came are unknown."""
        if self._unreached:
            return [Check(name=step.name, ok=None, message="the disaster never came") for step in self.scenario.checks]
        found: list[Check] = []

        def all_of_them() -> None:
            for step in self.scenario.checks:
                found.append(self._check(step))
                self.show.line(f"{step.name}: {found[-1].message}")

        self._step("check", CHECKS, "what came back", all_of_them)
        return found

    def _clean(self) -> None:
        """End the world and see that nothing is left; a second Ctrl-C does not stop it."""
        self._stand_in, self._simulated = self.world.stand_in, cleaning.simulated(self.scene)
        with contextlib.suppress(KeyboardInterrupt):
            self._step("clean up", CLEANUP, "nothing stays behind", self._clean_up)

    # --- what phases are made of -----------------------------------------------------------------------

    def _start(self) -> None:
        self.scene.start()
        if self.options.record:
            self.options.record.note(processes=[self.world.supervisor_pid])

    def _observe(self) -> None:
        names = [one.name for one in self.scenario.spec.world.clusters if one.role == "source"]
        for name in names:
            self.scene.before[name] = self.scene.timed(f"picture of {name}", partial(self.scene.look, name))

    def _isolate(self) -> None:
        self._proofs = isolation.prove(self.scene)
        for proof in self._proofs:
            self.show.line(f"{proof.name}: {proof.message}")
        wrong = [proof for proof in self._proofs if proof.ok is not True]
        if wrong:
            raise Refused("; ".join(f"{one.name}: {one.message}" for one in wrong), reason="NotIsolated")

    def _clean_up(self) -> None:
        self._cleaned = cleaning.clean(self.scene, keep=self.options.keep)
        wrong = [proof for proof in self._cleaned if proof.ok is not True]
        if wrong and not self.options.keep:
            raise WorldFailed("; ".join(f"{one.name}: {one.message}" for one in wrong), reason="NotCleanedUp")

    def _act(self, step: Step, phase: str) -> str:
        """Carry a step out; gives what broke, "" when nothing did or it was refused as it had to be."""
        told: list[str] = []

        def act() -> None:
            try:
                told.append(step.kind.act(self.scene, step.parameters) or "")
            except SecretsOpsError as error:
                if not step.refused or error.reason != step.refused:
                    raise
                self.scene.refusals[step.name] = error.reason
                told.append(f"refused as it has to be: {error.message}")
            else:
                if step.refused:
                    raise WorldFailed(f"it was not refused for {step.refused}", reason="NotRefused")

        return self._step(step.name, phase, step.kind.about, act, told)

    def _failed(self, step: Step, broken: str) -> bool:
        if broken:
            self._broken, self._broken_step = broken, step.name
        return bool(broken)

    def _check(self, step: Step) -> Check:
        try:
            ok, message = step.kind.act(self.scene, step.parameters)
        except SecretsOpsError as error:
            return Check(name=step.name, ok=None, message=f"{error.message} ({error.reason})")
        return Check(name=step.name, ok=ok, message=message)

    def _step(self, name: str, phase: str, what: str, act: Callable[[], None], told: Sequence[str] = ()) -> str:
        """Carry something out and measure it; gives what broke, "" when nothing did."""
        self.show.begin(name, what)
        self._tell(event="begin", step=name, phase=phase, what=what)
        self.scene.parts, start, broken = [], self.scene.now(), ""
        try:
            act()
        except SecretsOpsError as error:
            broken = f"{name}: {error.message} ({error.reason})"
        except KeyboardInterrupt:
            broken = f"{name}: {ABORTED}"
            raise
        finally:
            message = broken or next(iter(told), "")
            span = Span(name=name, start=start, end=self.scene.now(), ok=not broken, message=message,
                        parts=list(self.scene.parts), phase=phase)  # fmt: skip
            self._spans.append(span)
            self.show.end(name, seconds=span.seconds, ok=span.ok, message=message or what)
            self._tell(event="end", step=name, phase=phase, ok=span.ok, seconds=round(span.seconds, 3), message=message)
        return broken

    def _tell(self, **facts: Any) -> None:
        if self.options.record:
            self.options.record.event(**facts)

    # --- judging ---------------------------------------------------------------------------------------

    def _judged(self, checks: list[Check]) -> Report:
        timeline = Timeline(spans=self._spans, marks=self.scene.marks)
        data = [check for check, step in zip(checks, self.scenario.checks, strict=True) if step.kind.proves_data]
        equal = all(check.ok is True for check in data)
        known = bool(data) and all(check.ok is not None for check in data)
        lost = timeline.lost(equal=equal) if known else None
        goals = self._goals(timeline, lost)
        objectives = self.scenario.spec.objectives
        cleaned = [f"{one.name}: {one.message}" for one in self._cleaned if one.ok is not True]
        if not self._cleaned:
            cleaned = ["clean-up"]
        verdict, message = judge(
            checks,
            goals,
            broken=self._broken,
            unreached=self._unreached,
            unproven=[KEPT] if self.options.keep and not self._unreached else cleaned,
            stand_in=self._stand_in,
        )
        return Report(
            scenario=self.scenario.name,
            started=self._started,
            verdict=verdict,
            message=message,
            backend="embedded" if self._stand_in else "control-plane",
            rto_objective=objectives.control_plane_rto,
            rpo_objective=objectives.rpo,
            rpo=lost,
            checks=checks,
            timeline=timeline,
            run_id=self.options.run_id,
            twin=self.scenario.is_twin,
            broken=self._broken_step,
            goals=goals,
            details=self._details(),
        )

    def _goals(self, timeline: Timeline, lost: float | None) -> list[Goal]:
        wanted, simulated = self.scenario.spec.objectives, SIMULATED if self._simulated else ""
        whole = timeline.from_disruption
        found = [
            Goal(name="controlPlaneRto", tier="", objective=wanted.control_plane_rto, measured=whole),
            Goal(name="rpo", tier="", objective=wanted.rpo, measured=lost),
        ]
        if wanted.service_rto is not None:
            found.append(
                Goal(name="serviceRto", tier="", objective=wanted.service_rto, measured=whole, not_applicable=simulated)
            )
        if wanted.mtd is not None:
            checked = [span.end for span in timeline.spans if span.phase == CHECKS]
            start = timeline.at(DISRUPTED)
            measured = checked[-1] - start if checked and start is not None and whole is not None else None
            found.append(Goal(name="mtd", tier="", objective=wanted.mtd, measured=measured))
        for tier in wanted.tiers:
            measured = self._tier(tier.applications, timeline)
            if tier.control_plane_rto is not None:
                found.append(
                    Goal(name="controlPlaneRto", tier=tier.name, objective=tier.control_plane_rto, measured=measured)
                )
            if tier.service_rto is not None:
                found.append(
                    Goal(
                        name="serviceRto",
                        tier=tier.name,
                        objective=tier.service_rto,
                        measured=measured,
                        not_applicable=simulated,
                    )
                )
        return found

    def _tier(self, applications: Sequence[str], timeline: Timeline) -> float | None:
        """Give the time from the disruption until the last of some applications was healthy, None unknown."""
        start, apps = timeline.at(DISRUPTED), self.scene.apps
        ends = [apps[name].ended for name in applications if name in apps and apps[name].ok]
        if start is None or len(ends) != len(applications):
            return None
        return max((end - start for end in ends if end is not None), default=None)

    def _details(self) -> Mapping[str, Any]:
        return {
            "hypothesis": self.scenario.spec.hypothesis or self.scenario.spec.description,
            "isolation": [{"name": one.name, "ok": one.ok, "message": one.message} for one in self._proofs],
            "transforms": list(isolation.TRANSFORMS) if self._simulated else [],
            "cleanup": [{"name": one.name, "ok": one.ok, "message": one.message} for one in self._cleaned],
            "refusals": dict(self.scene.refusals),
            "revisions": {app.app: app.revision for app in self.scene.apps.values()},
            "applications": [
                {
                    "application": app.app, "started": round(app.started, 3),
                    "ended": None if app.ended is None else round(app.ended, 3), "ok": app.ok, "objects": app.objects,
                    "waves": [{"phase": phase, "wave": wave, "at": round(at, 3)} for phase, wave, at in app.waves],
                }
                for app in self.scene.apps.values()
            ],
            "waits": [
                {"at": round(wait.start, 3), "seconds": round(wait.seconds, 3), "stage": wait.stage, "for": wait.what}
                for wait in critical_path(self.scene.waits)
            ],
            **self.scene.recovered(),
        }  # fmt: skip
