"""Jobs and CronJobs: the Pods and Jobs they bring along, and their status.

Follows `pkg/controller/job` and `pkg/controller/cronjob/cronjob_controllerv2.go` in what a client can see.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from drills.sandbox.embedded.client import POD, Client, owner_of
from drills.sandbox.embedded.scaling import scaled
from drills.sandbox.embedded.schedule import last_due, seconds_to_next
from drills.sandbox.embedded.writes import Body

JOB, CRON_JOB = ("batch", "Job"), ("batch", "CronJob")


def job(client: Client, body: Body) -> None:
    """Run a Job's Pods to their end, and say how it ended."""
    spec, old = body["spec"], body.get("status") or {}
    if old.get("completionTime") or any(each["type"] == "Failed" for each in old.get("conditions") or []):
        return
    if body["metadata"].get("deletionTimestamp"):
        return
    if spec.get("suspend"):
        for pod in client.owned(POD, body):
            client.delete(POD, pod)
        if not _is(body, "Suspended"):
            client.status(JOB, body, {**_paused(old), "conditions": _ended(
                client, ("Suspended",), "JobSuspended", "Job suspended")})  # fmt: skip
        return
    wanted = int(spec.get("completions") or spec.get("parallelism") or 1)
    pods = scaled(client, body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"}, restart="Never")
    phases = [(pod.get("status") or {}).get("phase") for pod in pods]
    done, failed = phases.count("Succeeded"), phases.count("Failed")
    status: Body = {"startTime": old.get("startTime") or client.now(), "uncountedTerminatedPods": {}}
    counts = {"active": len(pods) - done - failed, "succeeded": done, "failed": failed, "ready": 0}
    status |= {name: count for name, count in counts.items() if count or name == "ready"}
    if wanted and done >= wanted:
        status["completionTime"] = client.now()
        status["conditions"] = _ended(client, ("SuccessCriteriaMet", "Complete"), "CompletionsReached",
                                           "Reached expected number of succeeded pods")  # fmt: skip
    elif failed > int(spec.get("backoffLimit", 6)) or (failed and failed == len(pods)):
        status["conditions"] = _ended(client, ("FailureTarget", "Failed"), "BackoffLimitExceeded",
                                           "Job has reached the specified backoff limit")  # fmt: skip
    client.status(JOB, body, status)


def _paused(status: Body) -> Body:
    """Give a status without what a Job has only while it runs, or only while it does not."""
    return {name: value for name, value in status.items() if name not in ("active", "conditions")}


def _ended(client: Client, kinds: Sequence[str], reason: str, message: str) -> list[Body]:
    now = client.now()
    return [{"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": reason,
             "message": message} for kind in kinds]  # fmt: skip


def cron_job(client: Client, body: Body) -> None:
    """Make the Job that is due, forget old ones, and come again when the next is due."""
    metadata, spec = body["metadata"], body["spec"]
    if metadata.get("deletionTimestamp"):
        return
    status = _cron_status(client, body)
    now = dt.datetime.fromisoformat(client.now())
    schedule, zone = str(spec["schedule"]), str(spec.get("timeZone") or "")
    since = dt.datetime.fromisoformat(str(status.get("lastScheduleTime") or metadata["creationTimestamp"]))
    due = None if spec.get("suspend") else last_due(schedule, zone, since=since, now=now)
    if due is not None and not _is_too_late(spec, due, now) and _has_room(client, body, status):
        stamp = due.strftime("%Y-%m-%dT%H:%M:%SZ")
        made = client.create(JOB, _job_of(body, due, stamp))
        if made is not None:
            status["active"] = [*(status.get("active") or []), _reference(made)]
        status["lastScheduleTime"] = stamp
    client.status(CRON_JOB, body, status)
    wait = seconds_to_next(schedule, zone, now=now)
    if wait is not None and not spec.get("suspend"):
        client.again(CRON_JOB, body, wait)


def _cron_status(client: Client, body: Body) -> Body:
    """Give the status as its Jobs are; deletes those past the history's limits."""
    spec, status = body["spec"], dict(body.get("status") or {})
    jobs = client.owned(JOB, body)
    ended = {"Complete": [each for each in jobs if _is(each, "Complete")],
             "Failed": [each for each in jobs if _is(each, "Failed")]}  # fmt: skip
    for kind, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        for old in ended[kind][: max(len(ended[kind]) - int(spec.get(limit, 1)), 0)]:
            client.delete(JOB, old)
    active = [_reference(each) for each in jobs if not (_is(each, "Complete") or _is(each, "Failed"))]
    status.pop("active", None)
    times = [str(each["status"]["completionTime"]) for each in ended["Complete"]]
    if times:
        status["lastSuccessfulTime"] = max([*times, str(status.get("lastSuccessfulTime") or "")])
    return {**status, **({"active": active} if active else {})}


def _has_room(client: Client, body: Body, status: Body) -> bool:
    """Say whether another Job may run beside those that do; Replace ends them."""
    policy, active = body["spec"].get("concurrencyPolicy", "Allow"), status.get("active") or []
    if policy == "Replace":
        for each in client.owned(JOB, body):
            if each["metadata"]["uid"] in {reference["uid"] for reference in active}:
                client.delete(JOB, each)
        status.pop("active", None)
    return policy != "Forbid" or not active


def _is_too_late(spec: Body, due: dt.datetime, now: dt.datetime) -> bool:
    deadline = spec.get("startingDeadlineSeconds")
    return deadline is not None and (now - due).total_seconds() > float(deadline)


def _is(body: Body, condition: str) -> bool:
    found = (body.get("status") or {}).get("conditions") or []
    return any(each["type"] == condition and each["status"] == "True" for each in found)


def _job_of(body: Body, due: dt.datetime, stamp: str) -> Body:
    metadata, template = body["metadata"], body["spec"]["jobTemplate"]
    given = template.get("metadata") or {}
    head = {
        "name": f"{metadata['name']}-{int(due.timestamp()) // 60}",
        "namespace": metadata["namespace"],
        "labels": dict(given.get("labels") or {}),
        "annotations": {**(given.get("annotations") or {}), "batch.kubernetes.io/cronjob-scheduled-timestamp": stamp},
        "ownerReferences": [owner_of(body, "batch/v1", "CronJob")],
    }
    return {"metadata": head, "spec": template["spec"]}


def _reference(job: Body) -> Body:
    metadata = job["metadata"]
    names = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {"kind": "Job", "apiVersion": "batch/v1", **names}
