"""The sealing part of the process: what is watched, what a change concerns, keys, HTTP, metrics, put together.

Here the flags of the command line meet the spine (`controllers.sealed_secrets`). Never here: what a pass does, when a
key is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from controllers.attesting import Attester
from controllers.claims import CONFIGURATION
from controllers.escrow import KeyEscrow
from controllers.metrics import Metrics, label_text
from controllers.sealed_secrets import COMPARED, Doing, SealedSecrets
from controllers.sealed_view import View, masked, of_secret
from controllers.sealing_flags import Settings, read_settings
from controllers.sealing_http import guarded, routes
from controllers.sealing_keys import SELECTOR, Keys, Renewal
from controllers.sealing_metrics import SealingMetrics
from controllers.shadow import LOOK, Adoption, Shadow
from secretsops.escrow.config import Policy
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import EventType
from secretsops.sealing.sealed import SEALED_SECRET, SECRET

if TYPE_CHECKING:
    from controllers.loop import Part, Runtime, Watched


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the one part that keeps Secrets in line with SealedSecrets, and the sealing keys with their policy.

    Options are those of `secretsops controller`. A key Secret that comes wakes the SealedSecrets that
    did not open, one that goes wakes those it opened: their status shall say that they do not open any more.
    """
    from controllers.loop import Part, Result, Tick

    settings = read_settings(runtime.namespace, runtime.options)
    gate = KeyEscrow(
        runtime.cluster,
        runtime.clock,
        runtime.doors,
        namespace=runtime.namespace,
        legacy=settings.policy.prefix,
        fence=runtime.fence,
    )
    gate.fetch()
    keys, view = Keys(settings.policy, gate), View(watches_secrets=not settings.skip_recreate)
    metrics = SealingMetrics(omit_labels=settings.omit_labels)
    shadow = Shadow(runtime.cluster, runtime.clock, namespace=runtime.namespace)
    adoption = Adoption(runtime.cluster, runtime.clock, namespace=runtime.namespace)
    doing = Doing(
        update_status=settings.update_status,
        accept_v1=settings.accept_v1,
        old_gc=settings.old_gc,
        held_back=shadow.why,
        acknowledged=adoption.is_over,
    )
    spine = SealedSecrets(
        runtime.cluster,
        lambda: keys.ring,
        runtime.events("sealed-secrets"),
        view=view,
        doing=doing,
        metrics=metrics,
        clock=runtime.clock,
    )
    renewal = Renewal(runtime.cluster, keys, runtime.clock, held_back=shadow.why)

    attester = Attester(runtime.clock, gate, spine.statements, held_back=shadow.why)

    own = Metrics()
    own.gauge("sealing_shadow", "1 beside a living peer: nothing is written.", lambda: {"": float(shadow.is_seen)})
    own.gauge(
        "sealing_compared",
        "SealedSecrets by what would be done, beside a living peer.",
        lambda: {label_text({"outcome": name}): number for name, number in spine.compared().items()},
    )
    own.gauge("sealing_keys", "Sealing keys by use.", lambda: _by_state(keys))

    def reconcile(key: ObjectKey) -> Result:
        action = spine.reconcile(key)
        return Result(action=action, again_after=LOOK if action == COMPARED else 0.0)

    def missing() -> str:
        if keys.ring.sealing_key(runtime.clock.now()):
            return ""
        waits = f" ({gate.standing.reason}: {gate.standing.message})" if gate.policy is not Policy.OFF else ""
        return f"there is no key to seal with yet{waits}"

    offered = routes(lambda: keys.ring, runtime.clock, rate=settings.rate, burst=settings.burst, told=metrics.answered)
    return [
        Part(
            name="sealed-secrets",
            watched=[
                *_watched_keys(runtime, settings, keys, spine, renewal.wake.set),
                *_watched(settings, view, spine, shadow),
            ],
            reconcile=reconcile,
            ticks=[
                Tick(name="shadow", act=shadow.look),
                Tick(name="keys", act=renewal.look, wake=renewal.wake),
                Tick(name="attestations", act=attester.look),
            ],
            routes=offered,
            direct=guarded(offered, runtime.cluster),
            unready=missing,
            exposed=lambda: metrics.text() + own.text() + gate.exposed(),
            asked=renewal.ask,
        )
    ]


def _watched(settings: Settings, view: View, spine: SealedSecrets, shadow: Shadow) -> list[Watched]:
    """Give the watches of the objects themselves. Compat: of Secrets all are watched, whatever the label selector."""
    from controllers.loop import Watched
    from controllers.reflector import Selection

    def secret(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        view.told(kind, manifest)
        key = of_secret(manifest)
        if not view.uid(key):
            return []
        if kind is EventType.DELETED:
            return [key] if spine.makes_anew(manifest, key) else []
        return [] if spine.is_as_left(manifest, key) else [key]

    def keep(sealed: Manifest) -> Manifest:
        shadow.mark(sealed)
        return view.keep(sealed)

    found = []
    for namespace in settings.namespaces:
        selection = Selection(kind=SEALED_SECRET, namespace=namespace, label_selector=settings.label_selector)
        found.append(Watched(selection=selection, keys=view.changed, keep=keep))
        if view.watches_secrets:
            found.append(Watched(selection=Selection(kind=SECRET, namespace=namespace), keys=secret, keep=masked))
    return found


def _by_state(keys: Keys) -> dict[str, float]:
    counted = Counter(str(key.state) for key in keys.ring)
    counted["broken"] = len(keys.broken)
    return {label_text({"state": state}): float(number) for state, number in counted.items()}


def _watched_keys(
    runtime: Runtime, settings: Settings, keys: Keys, spine: SealedSecrets, wake: Callable[[], None]
) -> list[Watched]:
    """Give the watches of key Secrets: the labelled ones, and the one of the legacy name."""
    from controllers.loop import Watched
    from controllers.reflector import Selection

    held: tuple[dict[ObjectKey, Manifest], dict[ObjectKey, Manifest]] = ({}, {})

    def heard(place: dict[ObjectKey, Manifest], kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            place.pop(manifest.key, None)
        else:
            place[manifest.key] = manifest
        before, waited = set(keys.ring.fingerprints), keys.kept_back
        changed = keys.load([*held[0].copy().values(), *held[1].copy().values()])
        if keys.gate is not None and keys.kept_back - waited:
            keys.gate.hurry()
            changed = True
        if changed:
            wake()
        # A key that we minted is in the ring already: whoever waits for it is woken all the same.
        return [*spine.opened_with(before - set(keys.ring.fingerprints)), *spine.closed()]

    def configured(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        gate = keys.gate
        if isinstance(gate, KeyEscrow) and gate.configured(None if kind is EventType.DELETED else manifest):
            keys.load([*held[0].copy().values(), *held[1].copy().values()])
            wake()
        return []

    return [
        Watched(
            selection=Selection(kind=SECRET, namespace=settings.policy.namespace, label_selector=SELECTOR),
            keys=lambda kind, manifest: heard(held[0], kind, manifest),
        ),
        Watched(
            selection=Selection(
                kind=SECRET,
                namespace=settings.policy.namespace,
                field_selector=f"metadata.name={settings.policy.prefix}",
            ),
            keys=lambda kind, manifest: heard(held[1], kind, manifest),
        ),
        Watched(
            selection=Selection(
                kind=SECRET, namespace=runtime.namespace, field_selector=f"metadata.name={CONFIGURATION}"
            ),
            keys=configured,
        ),
    ]
