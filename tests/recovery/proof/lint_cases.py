"""For each rule of `recover lint` what it finds and what it passes: YAML of one application, or files of an estate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recovery.proof.subject import Target
from tests.recovery.estates import application

Files = str | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """`bad` makes the rule speak about every name in `names`; `good` does not."""

    bad: Files
    good: Files
    names: tuple[str, ...]
    bad_target: Target | None = None
    good_target: Target | None = None


def obj(
    api: str,
    kind: str,
    name: str,
    rest: str = "",
    *,
    namespace: str = "",
    wave: str = "",
    marks: str = "",
    labels: str = "",
) -> str:
    """Give one object as YAML; `rest` are its further top-level fields."""
    annotations = ", ".join(filter(None, [f'argocd.argoproj.io/sync-wave: "{wave}"' if wave else "", marks]))
    parts = [f"name: {name}", f"namespace: {namespace}" if namespace else ""]
    parts += [f"annotations: {{{annotations}}}" if annotations else "", f"labels: {{{labels}}}" if labels else ""]
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {{{', '.join(filter(None, parts))}}}\n{rest}\n---\n"


def deployment(name: str, pod: str = "", *, container: str = "", labels: str = "", more: str = "", **place: str) -> str:
    """Give a Deployment; `pod` are fields of its pod's spec, `container` of its container."""
    inside = f"{{name: {name}, image: example.com/{name}{', ' + container if container else ''}}}"
    labelled = f"metadata: {{labels: {{app: {name}}}}}"
    spec = (
        f"spec: {{selector: {{matchLabels: {{app: {name}}}}}, {more} "
        f"template: {{{labelled}, spec: {{{pod + ', ' if pod else ''}containers: [{inside}]}}}}}}"
    )
    return obj("apps/v1", "Deployment", name, spec, labels=labels, **place)


def env(secret: str) -> str:
    return f"env: [{{name: A, valueFrom: {{secretKeyRef: {{name: {secret}, key: a}}}}}}]"


def sealed(name: str, **place: str) -> str:
    return obj("bitnami.com/v1alpha1", "SealedSecret", name, "spec: {encryptedData: {a: AgA=}}", **place)


def external(name: str, store: str = "vault", *, more: str = "", **place: str) -> str:
    spec = f"spec: {{secretStoreRef: {{name: {store}}}, data: [{{secretKey: a, remoteRef: {{key: k}}}}]{more}}}"
    return obj("external-secrets.io/v1", "ExternalSecret", name, spec, namespace="shop", **place)


def store(
    auth: str, *, name: str = "vault", server: str = "https://vault.example", marks: str = "", wave: str = ""
) -> str:
    spec = f'spec: {{provider: {{vault: {{server: "{server}", path: secret, auth: {{{auth}}}}}}}}}'
    return obj("external-secrets.io/v1", "SecretStore", name, spec, namespace="shop", marks=marks, wave=wave)


TOKEN = "tokenSecretRef: {name: token, key: t}"
CRD = obj(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "widgets.example.com",
    "spec: {group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets}, "
    "versions: [{name: v1, served: true, storage: true}]}",
)
WIDGET = obj("example.com/v1", "Widget", "w")
SERVICE = obj("v1", "Service", "hook", "spec: {selector: {app: hook}}")


def webhook(
    resources: str = "configmaps", *, wave: str = "", policy: str = "Fail", ca: str = "caBundle: AAAA,", more: str = ""
) -> str:
    hooks = (
        f"webhooks: [{{name: guard.example.com, failurePolicy: {policy}, clientConfig: {{{ca} service: {{name: hook, "
        f'namespace: shop}}}}, rules: [{{apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE], '
        f"resources: [{resources}]}}]{more}}}]"
    )
    return obj("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "guard", hooks, wave=wave)


def config(name: str, data: str = "{}", **place: str) -> str:
    return obj("v1", "ConfigMap", name, f"data: {data}", **place)


def namespace(name: str, **place: str) -> str:
    return obj("v1", "Namespace", name, **place)


def job(name: str, *, spec: str = "", pod: str = "", **place: str) -> str:
    inner = f"restartPolicy: Never, {pod} containers: [{{name: a, image: b, {env('token')}}}]"
    return obj("batch/v1", "Job", name, f"spec: {{{spec} template: {{spec: {{{inner}}}}}}}", **place)


def children(*apps: str, **files: str) -> dict[str, str]:
    """Give an estate: a root whose folder holds Applications, and their files by name."""
    found = {"root.yaml": application("root", "apps")}
    found |= {f"apps/{number}.yaml": text for number, text in enumerate(apps)}
    return found | {f"{name}/all.yaml": text for name, text in files.items()}


def project(window: str) -> dict[str, str]:
    text = obj(
        "argoproj.io/v1alpha1", "AppProject", "team", f"spec: {{syncWindows: [{{{window}}}]}}", namespace="argocd"
    )
    return {"root.yaml": application("root", "apps"), "apps/project.yaml": text}


def applicationset(generators: str, more: str = "") -> str:
    spec = f"spec: {{generators: [{generators}], {more} template: {{metadata: {{name: x}}, spec: {{}}}}}}"
    return obj("argoproj.io/v1alpha1", "ApplicationSet", "set", spec, namespace="argocd")


def pvc(name: str, spec: str = "storageClassName: lazy", **place: str) -> str:
    return obj("v1", "PersistentVolumeClaim", name, f"spec: {{{spec}}}", **place)


LAZY = obj(
    "storage.k8s.io/v1", "StorageClass", "lazy", "provisioner: a\nvolumeBindingMode: WaitForFirstConsumer", wave="-1"
)
USES_CLAIM = "volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]"
HOOK_MARK = "argocd.argoproj.io/hook: PreSync"
ROOT_CA = obj(
    "cert-manager.io/v1",
    "Certificate",
    "ca",
    "spec: {isCA: true, secretName: root-ca, issuerRef: {name: self}}",
    namespace="shop",
) + obj("cert-manager.io/v1", "Issuer", "self", "spec: {selfSigned: {}}", namespace="shop")
CERT_CRDS = "".join(
    obj(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"{kind.lower()}s.{group}",
        f"spec: {{group: {group}, scope: Namespaced, names: {{kind: {kind}, plural: {kind.lower()}s}}}}",
        wave="-5",
    )
    for group, kind in (("cert-manager.io", "Certificate"), ("cert-manager.io", "Issuer"))
)


def certificates(count: int, server: str) -> str:
    issuer = obj("cert-manager.io/v1", "Issuer", "acme", f'spec: {{acme: {{server: "{server}"}}}}', namespace="shop")
    one = "spec: {{secretName: t{0}, dnsNames: [h{0}.example.com], issuerRef: {{name: acme}}}}"
    return issuer + "".join(
        obj("cert-manager.io/v1", "Certificate", f"c{n}", one.format(n), namespace="shop") for n in range(count)
    )


def ingress(host: str) -> str:
    return obj("networking.k8s.io/v1", "Ingress", "front", f'spec: {{rules: [{{host: "{host}"}}]}}', namespace="shop")


def trust(issuer: str) -> str:
    document = f'{{"Statement": [{{"Principal": {{"Federated": "arn:aws:iam::1:oidc-provider/{issuer}"}}}}]}}'
    return obj("iam.services.k8s.aws/v1alpha1", "Role", "role", f"spec: {{assumeRolePolicyDocument: '{document}'}}")


OLD_ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
NEW_ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/FEDCBA9876543210FEDCBA9876543210"


def generated(more: str = "", marks: str = "") -> str:
    spec = (
        "spec: {dataFrom: [{sourceRef: {generatorRef: {apiVersion: generators.external-secrets.io/v1alpha1, "
        f"kind: Password, name: pw}}}}}}]{more}}}"
    )
    return obj("external-secrets.io/v1", "ExternalSecret", "db", spec, namespace="shop", marks=marks)


def stateful(pod: str = "", claim: str = "", marks: str = "", container: str = "") -> str:
    inner = f"containers: [{{name: a, image: b{', ' + container if container else ''}}}]"
    claims = f"volumeClaimTemplates: [{{metadata: {{name: d}}, spec: {{{claim}}}}}], " if claim else ""
    spec = f"spec: {{serviceName: s, {claims}template: {{spec: {{{pod}{inner}}}}}}}"
    return obj("apps/v1", "StatefulSet", "db", spec, marks=marks)


def quota(hard: str) -> str:
    return obj("v1", "ResourceQuota", "q", f"spec: {{hard: {{{hard}}}}}", namespace="shop")


RESTRICTED = namespace("shop", labels="pod-security.kubernetes.io/enforce: restricted")
HARDENED = "securityContext: {runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"
WITH_TOKEN = sealed("token", namespace="shop", wave="-2")
ROOT_WAVES = children(application("a", "a", wave=1), application("b", "b", wave=2), a=config("x"), b=config("y"))
HEALTH_RULE = config(
    "argocd-cm", "{resource.customizations.health.argoproj.io_Application: 'return {}'}", namespace="argocd"
)


def policy(more: str) -> dict[str, str]:
    """Give a root with one more field in its syncPolicy."""
    return {"root.yaml": application("shop", "shop", more=f", {more}"), "shop/all.yaml": config("a")}


def child(old: str, new: str) -> dict[str, str]:
    """Give a root with one child, a text in it replaced."""
    text = application("kid", "kid")
    assert old in text
    return children(text.replace(old, new), kid=config("a"))


NAMED = "name: kid\n  namespace: argocd"
LONG_ACME = "https://acme-v02.api.letsencrypt.org/directory"
OWNED = "ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: o, uid: 8b1c-4f}]"
CNPG = "postgresql.cnpg.io/v1"

CASES: Mapping[str, Case] = {
    "cannot-be-carried-out": Case(config("a") + config("a"), config("a") + config("b"), ("argocd/shop",)),
    "cycle": Case(
        deployment("a", marks="secretsops.dev/depends-on: Deployment/b")
        + deployment("b", marks="secretsops.dev/depends-on: Deployment/a"),
        deployment("a", marks="secretsops.dev/depends-on: Deployment/b") + deployment("b"),
        ("apps/Deployment shop/a", "apps/Deployment shop/b"),
    ),
    "deadlock": Case(
        deployment("web", container=env("token")) + sealed("token", namespace="shop", wave="1"),
        deployment("web", container=env("token"), wave="2") + sealed("token", namespace="shop", wave="1"),
        ("apps/Deployment shop/web", "bitnami.com/SealedSecret shop/token"),
    ),
    "hook-deadlock": Case(
        job("migrate", marks=HOOK_MARK) + sealed("token", namespace="shop"),
        job("migrate", marks=HOOK_MARK) + sealed("token", namespace="shop", wave="-1", marks=HOOK_MARK),
        ("batch/Job shop/migrate", "bitnami.com/SealedSecret shop/token"),
    ),
    "missing-dependency": Case(WIDGET, CRD + WIDGET, ("example.com/Widget shop/w",)),
    "missing-secret": Case(
        deployment("web", "imagePullSecrets: [{name: token}]"),
        deployment("web", "imagePullSecrets: [{name: token}]") + sealed("token", namespace="shop"),
        ("apps/Deployment shop/web", "Secret shop/token"),
    ),
    "missing-class": Case(
        pvc("data"),
        pvc("data") + LAZY,
        ("PersistentVolumeClaim shop/data", "storage.k8s.io/StorageClass lazy"),
    ),
    "foreign-definition": Case(
        children(application("a", "a"), application("b", "b"), a=CRD, b=WIDGET),
        children(application("a", "a", wave=1), application("b", "b", wave=2), a=CRD, b=WIDGET),
        ("example.com/Widget b/w",),
    ),
    "same-wave-definition": Case(
        CRD + WIDGET, CRD + obj("example.com/v1", "Widget", "w", wave="1"), ("example.com/Widget shop/w",)
    ),
    "secret-after-consumer": Case(
        deployment("web", container=env("token")) + sealed("token", namespace="shop"),
        deployment("web", container=env("token")) + WITH_TOKEN,
        ("apps/Deployment shop/web", "bitnami.com/SealedSecret shop/token"),
    ),
    "claim-gates-its-pod": Case(
        LAZY + pvc("data") + deployment("db", USES_CLAIM, wave="1"),
        LAZY + pvc("data") + deployment("db", USES_CLAIM) + config("late", wave="2"),
        ("PersistentVolumeClaim shop/data", "apps/Deployment shop/db"),
    ),
    "address-gates-wave": Case(
        ingress("a.example") + config("late", wave="1"),
        config("early", wave="-1") + ingress("a.example"),
        ("networking.k8s.io/Ingress shop/front",),
    ),
    "namespace-pulled": Case(
        namespace("other", wave="3") + config("a", namespace="other"),
        namespace("other", wave="3") + config("a", namespace="other", wave="3"),
        ("Namespace other",),
    ),
    "dead-declaration": Case(
        config("a", marks="secretsops.dev/depends-on: Deployment/gone"),
        config("a", marks="secretsops.dev/depends-on: Deployment/web") + deployment("web"),
        ("ConfigMap shop/a", "apps/Deployment shop/gone"),
    ),
    "ungated-last-wave": Case(
        children(
            application("a", "a", wave=1),
            application("b", "b", wave=2),
            a=deployment("db"),
            b=deployment("web", marks="secretsops.dev/depends-on: Deployment/a/db"),
        ),
        children(
            application("a", "a", wave=1),
            application("b", "b", wave=2),
            a=deployment("db") + config("last", wave="1"),
            b=deployment("web", marks="secretsops.dev/depends-on: Deployment/a/db"),
        ),
        ("apps/Deployment a/db", "apps/Deployment b/web"),
    ),
    "unreadable-file": Case(
        config("a") + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n", config("a"), ("argocd/shop",)
    ),
    "unknown-hook": Case(
        config("a", marks="argocd.argoproj.io/hook: Presync"),
        config("a", marks=HOOK_MARK),
        ("argocd/shop",),
    ),
    "wave-is-no-number": Case(config("a", wave="first"), config("a", wave="-1"), ("ConfigMap shop/a",)),
    "misspelt-option": Case(
        {
            "root.yaml": application("shop", "shop", options="CreateNamespaces=true"),
            "shop/all.yaml": config("a"),
        },
        {"root.yaml": application("shop", "shop"), "shop/all.yaml": config("a")},
        ("argoproj.io/Application argocd/shop",),
    ),
    "option-at-wrong-level": Case(
        config("a", marks="argocd.argoproj.io/sync-options: CreateNamespace=true"),
        config("a", marks="argocd.argoproj.io/sync-options: Prune=false"),
        ("ConfigMap shop/a",),
    ),
    "missing-finalizer": Case(
        child(NAMED, NAMED),
        child(NAMED, f"{NAMED}\n  finalizers: [resources-finalizer.argocd.argoproj.io]"),
        ("argoproj.io/Application argocd/kid",),
    ),
    "destination-by-url": Case(
        child("https://kubernetes.default.svc", "https://10.0.0.1:6443"),
        child("https://kubernetes.default.svc", "https://kubernetes.default.svc"),
        ("argoproj.io/Application argocd/kid",),
    ),
    "application-health-absent": Case(ROOT_WAVES, {**ROOT_WAVES, "apps/cm.yaml": HEALTH_RULE}, ("argocd/root",)),
    "broken-child-ignored": Case(
        child("path: kid", "path: nowhere"), child("path: kid", "path: kid"), ("argocd/kid", "argocd/root")
    ),
    "endless-hook": Case(
        job("a", marks=HOOK_MARK), job("a", spec="activeDeadlineSeconds: 60,", marks=HOOK_MARK), ("batch/Job shop/a",)
    ),
    "suspended-job": Case(job("a", spec="suspend: true,"), job("a"), ("batch/Job shop/a",)),
    "healthy-without-status": Case(
        obj("s3.aws.upbound.io/v1beta1", "Bucket", "b") + config("late", wave="1"),
        obj("s3.aws.upbound.io/v1beta1", "Bucket", "b", wave="2") + config("late", wave="1"),
        ("s3.aws.upbound.io/Bucket shop/b",),
    ),
    "retry-pins-commit": Case(
        policy("retry: {limit: 5}"),
        policy("retry: {limit: 5, refresh: true}"),
        ("argoproj.io/Application argocd/shop",),
    ),
    "first-retry-doubled": Case(
        policy("retry: {limit: 5, backoff: {duration: 5s}}"),
        policy("retry: {limit: 5, backoff: {duration: 5s, factor: 1}}"),
        ("argoproj.io/Application argocd/shop",),
    ),
    "window-in-changing-time": Case(
        project('kind: allow, schedule: "0 2 * * *", timeZone: Europe/Berlin, manualSync: true'),
        project('kind: allow, schedule: "0 12 * * *", timeZone: Europe/Berlin, manualSync: true'),
        ("argoproj.io/AppProject argocd/team",),
    ),
    "window-blocks-rebuild": Case(
        project('kind: deny, schedule: "0 12 * * *"'),
        project('kind: deny, schedule: "0 12 * * *", manualSync: true'),
        ("argoproj.io/AppProject argocd/team",),
    ),
    "merge-keys-not-unique": Case(
        applicationset("{merge: {mergeKeys: [id], generators: [{list: {elements: [{id: a}, {id: a}]}}]}}"),
        applicationset("{merge: {mergeKeys: [id], generators: [{list: {elements: [{id: a}, {id: b}]}}]}}"),
        ("argoproj.io/ApplicationSet argocd/set",),
    ),
    "empty-generator": Case(
        applicationset("{list: {elements: []}}"),
        applicationset("{list: {elements: [{a: b}]}}"),
        ("argoproj.io/ApplicationSet argocd/set",),
    ),
    "webhook-before-backend": Case(
        SERVICE + webhook(wave="-1") + deployment("hook", wave="1") + config("a"),
        SERVICE + webhook(wave="2") + deployment("hook", wave="1") + config("a"),
        ("guard.example.com", "Service shop/hook", "ConfigMap shop/a"),
    ),
    "webhook-guards-itself": Case(
        SERVICE + webhook("pods", wave="-1") + deployment("hook"),
        SERVICE
        + webhook(
            "pods",
            wave="-1",
            more=", namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, "
            "values: [shop]}]}",
        )
        + deployment("hook"),
        ("guard.example.com", "Service shop/hook", "apps/Deployment shop/hook"),
    ),
    "webhook-without-ca": Case(
        webhook(ca=""),
        webhook(),
        ("admissionregistration.k8s.io/ValidatingWebhookConfiguration guard",),
    ),
    "conversion-backend": Case(
        CRD.replace("scope:", "conversion: {webhook: {clientConfig: {service: {name: hook, namespace: shop}}}}, scope:")
        + SERVICE
        + WIDGET
        + deployment("hook", wave="1"),
        CRD.replace("scope:", "conversion: {webhook: {clientConfig: {service: {name: hook, namespace: shop}}}}, scope:")
        + SERVICE
        + obj("example.com/v1", "Widget", "w", wave="2")
        + deployment("hook", wave="1"),
        ("apiextensions.k8s.io/CustomResourceDefinition widgets.example.com", "Service shop/hook"),
    ),
    "stored-version-gone": Case(
        CRD + obj("example.com/v1alpha1", "Widget", "w"), CRD + WIDGET, ("example.com/Widget shop/w",)
    ),
    "pinned-authority": Case(
        CERT_CRDS + ROOT_CA + webhook(),
        CERT_CRDS + ROOT_CA + webhook() + sealed("root-ca", namespace="shop"),
        ("admissionregistration.k8s.io/ValidatingWebhookConfiguration guard", "cert-manager.io/Certificate shop/ca"),
    ),
    "pinned-address": Case(
        obj("v1", "Service", "a", "spec: {clusterIP: 10.0.0.7, ports: [{port: 80, nodePort: 30080}]}"),
        obj("v1", "Service", "a", "spec: {clusterIP: None, ports: [{port: 80}]}"),
        ("Service shop/a",),
    ),
    "dns-owner-clash": Case(
        deployment("external-dns", container="args: [--provider=aws]"),
        deployment("external-dns", container="args: [--txt-owner-id=prod-1]"),
        ("apps/Deployment shop/external-dns",),
    ),
    "acme-limit": Case(certificates(51, LONG_ACME), certificates(50, LONG_ACME), ("example.com",)),
    "host-inside": Case(
        ingress("git.invalid"),
        ingress("shop.invalid"),
        ("argocd/shop", "networking.k8s.io/Ingress shop/front"),
    ),
    "registry-inside": Case(
        ingress("example.com") + deployment("web"),
        ingress("other.example") + deployment("web"),
        ("networking.k8s.io/Ingress shop/front", "apps/Deployment shop/web"),
    ),
    "sign-on-inside": Case(
        ingress("id.example")
        + config("argocd-cm", '{oidc.config: "issuer: https://id.example/realm"}', namespace="argocd"),
        ingress("id.example") + config("argocd-cm", '{oidc.config: "issuer: https://out.example"}', namespace="argocd"),
        ("networking.k8s.io/Ingress shop/front",),
    ),
    "trust-names-lost-issuer": Case(
        trust(OLD_ISSUER),
        trust(NEW_ISSUER),
        ("iam.services.k8s.aws/Role shop/role",),
        Target(issuer=f"https://{NEW_ISSUER}"),
        Target(issuer=f"https://{NEW_ISSUER}"),
    ),
    "federated-identity": Case(
        obj("v1", "ServiceAccount", "app", marks="eks.amazonaws.com/role-arn: arn"),
        obj("v1", "ServiceAccount", "app"),
        ("ServiceAccount shop/app",),
    ),
    "vault-trusts-lost-cluster": Case(
        store("kubernetes: {mountPath: k8s-prod, role: app}"),
        store(TOKEN),
        ("external-secrets.io/SecretStore shop/vault",),
    ),
    "kms-unproven": Case(
        config("a"),
        config("a"),
        ("alias/escrow",),
        Target(kms_proven={"alias/escrow": float("inf")}),
        Target(kms_proven={"alias/escrow": 3.0}),
    ),
    "store-reads-itself": Case(
        store(TOKEN) + external("token"),
        store(TOKEN) + sealed("token", namespace="shop"),
        ("external-secrets.io/SecretStore shop/vault", "external-secrets.io/ExternalSecret shop/token"),
    ),
    "generator-mints-new": Case(
        generated(),
        generated(marks='secretsops.dev/regenerable: "true"'),
        ("external-secrets.io/ExternalSecret shop/db",),
    ),
    "old-owner": Case(config("a").replace("name: a", f"name: a, {OWNED}"), config("a"), ("ConfigMap shop/a",)),
    "stray-finalizer": Case(
        config("a").replace("name: a", "name: a, finalizers: [example.com/hold]"),
        config("a").replace("name: a", "name: a, finalizers: [kubernetes.io/pvc-protection]"),
        ("ConfigMap shop/a",),
    ),
    "runtime-object": Case(
        SERVICE + obj("v1", "Endpoints", "hook"),
        obj("v1", "Service", "hook", "spec: {}") + obj("v1", "Endpoints", "hook"),
        ("Endpoints shop/hook",),
    ),
    "peer-identity": Case(
        stateful(container="env: [{name: ETCD_INITIAL_CLUSTER_STATE, value: existing}]"),
        stateful(container="env: [{name: ETCD_INITIAL_CLUSTER_STATE, value: new}]"),
        ("apps/StatefulSet shop/db",),
    ),
    "empty-database": Case(
        obj(CNPG, "Cluster", "pg", "spec: {bootstrap: {initdb: {}}}"),
        obj(CNPG, "Cluster", "pg", "spec: {bootstrap: {recovery: {source: s3}}}"),
        ("postgresql.cnpg.io/Cluster shop/pg",),
    ),
    "empty-volume": Case(
        stateful(claim="storageClassName: lazy"),
        stateful(claim="storageClassName: lazy", marks="secretsops.dev/data: disposable"),
        ("apps/StatefulSet shop/db",),
    ),
    "removed-api": Case(
        obj("policy/v1beta1", "PodDisruptionBudget", "b"),
        obj("policy/v1beta1", "PodDisruptionBudget", "b"),
        ("policy/PodDisruptionBudget shop/b",),
        Target(version=(1, 25)),
        Target(version=(1, 24)),
    ),
    "quota-exceeded": Case(
        quota("requests.cpu: 500m")
        + deployment("web", container="resources: {requests: {cpu: 300m}}", more="replicas: 2,"),
        quota("requests.cpu: 500m")
        + deployment("web", container="resources: {requests: {cpu: 250m}}", more="replicas: 2,"),
        ("ResourceQuota shop/q",),
    ),
    "pod-security": Case(
        RESTRICTED + deployment("web"),
        RESTRICTED + deployment("web", container=HARDENED),
        ("apps/Deployment shop/web", "Namespace shop"),
    ),
    "priority-class": Case(
        deployment("web", "priorityClassName: high"),
        deployment("web", "priorityClassName: system-cluster-critical"),
        ("apps/Deployment shop/web", "scheduling.k8s.io/PriorityClass high"),
    ),
    "clock-skew": Case(config("a"), config("a"), ("the target's API server",), Target(skew=-61.0), Target(skew=59.0)),
}
