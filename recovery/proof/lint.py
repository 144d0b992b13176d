"""`recover lint`: what would go wrong in a rebuild, told from Git alone, with the cure. The spine of its rules.

Each rule is one pure function over a `Subject`, named in the table `RULES` with a stable id, a severity and a cure.
Sources: what Argo CD's users suffer, the silent traps in its code, and what goes wrong in real rebuilds; each module
under `rules/` names its own. Never here: a rule's own logic, printing.
"""

from __future__ import annotations

from collections.abc import Sequence

from recovery.proof.finding import Finding, Rule, Severity
from recovery.proof.rules import data, identity, inside, marks, network, order, target, traps
from recovery.proof.subject import Subject

_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES: Sequence[Rule] = (
    # --- order -------------------------------------------------------------------------------------------
    Rule("cannot-be-carried-out", _E, order.cannot_be_carried_out, "cure what is named, or take it out of Git"),
    Rule("cycle", _E, order.cycle, "break one of the dependencies: a copy of its own, or a start without it"),
    Rule("deadlock", _E, order.deadlock, "move what is needed to the same or an earlier wave or phase"),
    Rule(
        "hook-deadlock", _E, order.hook_deadlock, "make what the hook needs a hook of the same phase, an earlier wave"
    ),
    Rule("missing-dependency", _E, order.missing, "add it to Git, or name what installs it with --install"),
    Rule(
        "missing-secret", _E, order.missing_secret, "seal it, or pull it from a store; `recover verify` follows it up"
    ),
    Rule("missing-class", _W, order.missing_class, "add the class to Git, or check the new cluster with --target"),
    Rule(
        "foreign-definition", _E, order.foreign_definition, "give the CRD's application an earlier wave than this one"
    ),
    Rule("same-wave-definition", _N, order.same_wave_definition, "put the CRD one wave before its objects"),
    Rule("secret-after-consumer", _W, order.secret_after_consumer, "give what makes the Secret an earlier wave"),
    Rule("claim-gates-its-pod", _E, order.claim_gates_its_pod, "put the claim into the wave of the pod that uses it"),
    Rule("address-gates-wave", _W, order.address_gates_wave, "put it into the last wave, or annotate it as optional"),
    Rule("namespace-pulled", _N, order.namespace_pulled, "give the Namespace the wave of its first object"),
    Rule("dead-declaration", _E, order.dead_declaration, "write [group/]Kind/[namespace/]name of an object in Git"),
    Rule("ungated-last-wave", _N, order.ungated_last_wave, "let the parent wait: a health rule for Applications"),
    # --- marks that mean something else than they say ----------------------------------------------------------
    Rule("unreadable-file", _E, marks.unreadable_file, "mend the file: Argo CD would pass it by without a word"),
    Rule(
        "unknown-hook", _E, marks.unknown_hook, "use PreSync, Sync, PostSync, SyncFail, PreDelete, PostDelete or Skip"
    ),
    Rule("wave-is-no-number", _E, marks.wave_is_no_number, "write a whole number in quotes"),
    Rule(
        "misspelt-option", _E, marks.misspelt_option, "use an option of Argo CD's documentation, as it is written there"
    ),
    Rule("option-at-wrong-level", _W, marks.option_at_wrong_level, "move the option to the Application's syncOptions"),
    Rule("missing-finalizer", _N, marks.missing_finalizer, "add resources-finalizer.argocd.argoproj.io to the child"),
    Rule(
        "destination-by-url", _W, marks.destination_by_url, "name the cluster: `name: in-cluster`; names outlive URLs"
    ),
    # --- Argo CD's own traps ----------------------------------------------------------------------------------
    Rule("application-health-absent", _W, traps.application_health_absent, "add the health rule to argocd-cm"),
    Rule(
        "broken-child-ignored", _E, traps.broken_child_ignored, "mend the child: its parent's wave goes on without it"
    ),
    Rule("endless-hook", _W, traps.endless_hook, "set activeDeadlineSeconds and backoffLimit on the Job"),
    Rule("suspended-job", _W, traps.suspended_job, "start it from Git, or let nothing wait for it"),
    Rule("healthy-without-status", _W, traps.healthy_without_status, "add a health rule for the kind to argocd-cm"),
    Rule("retry-pins-commit", _W, traps.retry_pins_commit, "set syncPolicy.retry.refresh: true"),
    Rule("first-retry-doubled", _N, traps.first_retry_doubled, "halve backoff.duration if the first wait matters"),
    Rule("window-in-changing-time", _W, traps.window_in_changing_time, "use UTC, or start it outside 0:00 to 4:00"),
    Rule("window-blocks-rebuild", _W, traps.window_blocks_rebuild, "override it in the run, with a recorded reason"),
    Rule("merge-keys-not-unique", _E, traps.merge_keys_not_unique, "make the merge keys unique within a generator"),
    Rule("empty-generator", _E, traps.empty_generator, "remove the ApplicationSet, or set preserveResourcesOnDeletion"),
    # --- webhooks, addresses, names ------------------------------------------------------------------------------
    Rule("webhook-before-backend", _E, network.webhook_before_backend, "configure the webhook after its backend is up"),
    Rule("webhook-guards-itself", _E, network.webhook_guards_itself, "exclude its namespace by namespaceSelector"),
    Rule("webhook-without-ca", _W, network.webhook_without_ca, "let cert-manager inject the CA, or keep it in Git"),
    Rule("conversion-backend", _E, network.conversion_backend, "apply the converting workload before any such object"),
    Rule("stored-version-gone", _E, network.stored_version_gone, "serve the version, or migrate the objects in Git"),
    Rule("pinned-authority", _W, network.pinned_authority, "inject the CA, or escrow the CA's own Secret"),
    Rule("pinned-address", _W, network.pinned_address, "leave the address out, or free it before the rebuild"),
    Rule("dns-owner-clash", _E, network.dns_owner_clash, "give each external-dns a --txt-owner-id of its own"),
    Rule("acme-limit", _W, network.acme_limit, "restore the TLS Secrets, or issue from staging in drills"),
    # --- what runs inside the cluster that is lost ---------------------------------------------------------------
    Rule("host-inside", _E, inside.host_inside, "keep a copy outside the cluster, and name it as a mirror"),
    Rule("registry-inside", _E, inside.registry_inside, "mirror the images outside, and remap the registry in the run"),
    Rule("sign-on-inside", _W, inside.sign_on_inside, "keep a local administrator who needs no single sign-on"),
    # --- identities that end with the cluster ------------------------------------------------------------------
    Rule("trust-names-lost-issuer", _E, identity.trust_names_lost_issuer, "put the new issuer into the policy"),
    Rule(
        "federated-identity", _W, identity.federated_identity, "add the new issuer to the role's trust; name --issuer"
    ),
    Rule("vault-trusts-lost-cluster", _E, identity.vault_trusts_lost_cluster, "patch Vault's auth mount first"),
    Rule("kms-unproven", _E, identity.kms_unproven, "decrypt a canary, and record its date in recovery.yaml"),
    Rule("store-reads-itself", _E, identity.store_reads_itself, "seal the store's credential, or keep it in escrow"),
    Rule(
        "generator-mints-new", _E, identity.generator_mints_new, "seal the value, or mark it secretsops.dev/regenerable"
    ),
    Rule("old-owner", _E, identity.old_owner, "remove ownerReferences: their UIDs died with the cluster"),
    Rule("stray-finalizer", _W, identity.stray_finalizer, "remove it from Git: its controller adds it where it runs"),
    Rule("runtime-object", _E, identity.runtime_object, "remove it from Git: the cluster makes its own"),
    Rule("peer-identity", _E, identity.peer_identity, "start as a new cluster, or restore the members' data first"),
    # --- data --------------------------------------------------------------------------------------------------
    Rule("empty-database", _E, data.empty_database, "bootstrap from the backup: spec.bootstrap.recovery"),
    Rule("empty-volume", _W, data.empty_volume, "restore it, or say secretsops.dev/data: disposable"),
    # --- the cluster that is filled ------------------------------------------------------------------------------
    Rule("removed-api", _E, target.removed_api, "move the manifest to the version that is served"),
    Rule("quota-exceeded", _E, target.quota_exceeded, "raise the quota, or lower what the namespace asks for"),
    Rule("pod-security", _E, target.pod_security, "relax the namespace's level, or harden the pod"),
    Rule("priority-class", _E, target.priority_class, "add the PriorityClass to Git in an earlier wave"),
    Rule("clock-skew", _E, target.clock_skew, "set the clock: certificates and tokens are judged by it"),
)
"""Every rule, in the order of reports. Ids are stable: people ignore by them."""


def lint(subject: Subject, *, rules: Sequence[Rule] = RULES, ignored: Sequence[str] = ()) -> list[Finding]:
    """Give every finding, errors first, then in the order of the table; `ignored` are rule ids to leave out."""
    found = [
        Finding(rule=rule.id, severity=rule.severity, cure=rule.cure, objects=one.objects, message=one.message)
        for rule in rules
        if rule.id not in ignored
        for one in rule.check(subject)
    ]
    rank = {severity: number for number, severity in enumerate(Severity)}
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda finding: rank[finding.severity])
