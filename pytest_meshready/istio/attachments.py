"""What selects pods, gateways and secrets and finds none; and objects that are in each other's way.

The half of line 3.2.4 that is about Gateways, Sidecars, Telemetries, EnvoyFilters and plugins of the namespace. Reproduced from
pkg/config/analysis/analyzers of Istio 1.31; comments name the code of ``istioctl analyze``. Gateways usually run in another
namespace, so their pods are looked for among all pods of the cluster where these were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_meshready.cluster.objects import Metadata, WorkloadSelector
from pytest_meshready.cluster.objects_entry import Gateway, GatewayServer
from pytest_meshready.cluster.objects_traffic import EnvoyFilter, Sidecar
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.dataplane import counted
from pytest_meshready.istio.hosts import Known
from pytest_meshready.istio.podindex import PodIndex
from pytest_meshready.istio.routes import Routes
from pytest_meshready.istio.rulereport import Report
from pytest_meshready.istio.timeouts import edit
from pytest_meshready.results import Level, ObjectRef, Unknown

#: What `attachments` reads.
READS = (
    "pods",
    "node_pods",
    "gateways",
    "secrets",
    "sidecars",
    "telemetries",
    "envoyfilters",
    "wasmplugins",
    "trafficextensions",
    "requestauthentications",
)

#: How a Secret comes to be looked at.
BY_NAME = "name it in gateway_secrets of meshready.toml"

#: Modes in which the gateway shows a certificate of its own from a Secret.
SHOWS_CERTIFICATE = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"})
_ENCRYPTED = frozenset({"HTTPS", "TLS"})

#: What an EnvoyFilter may do where; the rest is ignored by istiod (IST0152 to IST0154).
_REPLACEABLE = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"})
_NEITHER = frozenset({"ROUTE_CONFIGURATION", "HTTP_ROUTE"})

_Labels = Mapping[str, str]


def attachments(snapshot: Snapshot, found: Routes) -> Report:
    """Everything of the namespace that selects something."""
    report = Report()
    pods = Everywhere(snapshot)
    for item in in_namespace(snapshot.gateways, snapshot.namespace):
        report.looked_at += 1
        _gateway(report, item, pods, snapshot)
    _gateway_conflicts(report, snapshot, pods)
    _claims(report, snapshot, found, pods)
    _sidecars(report, snapshot, found)
    _telemetries(report, snapshot, found.pods)
    for one in in_namespace(snapshot.envoyfilters, snapshot.namespace):
        report.looked_at += 1
        _envoy_filter(report, one)
    _selectors(report, snapshot, found.pods)
    return report


def _ref(kind: str, metadata: Metadata) -> ObjectRef:
    return ObjectRef(kind=kind, namespace=metadata.namespace, name=metadata.name)


class Everywhere:
    """The labels of the pods of the whole cluster, where they were read; else of the namespaces that were."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.complete = not snapshot.unread("node_pods")
        wide: Iterable[Metadata] = (pod.metadata for pod in snapshot.node_pods)
        near: Iterable[Metadata] = (pod.metadata for pod in snapshot.pods if counted(pod))
        by_name = {(item.namespace, item.name): item for item in (*wide, *near) if item.deletion_timestamp is None}
        self._all = tuple(by_name.values())
        self._asked: dict[frozenset[tuple[str, str]], tuple[Metadata, ...]] = {}

    def select(self, labels: _Labels) -> tuple[Metadata, ...]:
        """The pods that carry all of these labels."""
        key = frozenset(labels.items())
        if key not in self._asked:
            self._asked[key] = tuple(item for item in self._all if labels.items() <= item.labels.items())
        return self._asked[key]


def _written(labels: _Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "nothing"


# --- gateways ---------------------------------------------------------------------------------------------------------


def _gateway(report: Report, item: Gateway, pods: Everywhere, snapshot: Snapshot) -> None:
    ref = _ref("Gateway", item.metadata)
    chosen = pods.select(item.spec.selector)
    if not chosen and pods.complete:  # IST0101
        report.add(
            ref,
            "GATEWAY-SELECTOR",
            Level.ERROR,
            found=f"its selector ({_written(item.spec.selector)}) matches no pod of the cluster, so nothing serves it",
            wanted="every Gateway selects the pods of a gateway",
            fix=f"correct spec.selector: {edit(ref)}",
        )
    elif not chosen:
        reason = f"no pod that was read carries the labels of Gateway {item.metadata.name} ({_written(item.spec.selector)})"
        report.ask(Unknown(reason=f"{reason}: name the namespace of its gateway in gateway_namespaces of meshready.toml"))
    for server in item.spec.servers:
        _credential(report, ref, server, chosen, snapshot)


def _credential(report: Report, ref: ObjectRef, server: GatewayServer, chosen: tuple[Metadata, ...], snapshot: Snapshot) -> None:
    """The Secret of a server, in the namespace of the gateway's pods (IST0101, IST0161)."""
    tls = server.tls
    if tls is None or tls.mode not in SHOWS_CERTIFICATE or not chosen:
        return
    for written in dict.fromkeys((tls.credential_name, *tls.credential_names)):
        if written:
            _secret(report, ref, server.port.number, (chosen[0].namespace, written.rpartition("://")[2].rpartition("/")[2]), snapshot)


def _secret(report: Report, ref: ObjectRef, port: int, named: tuple[str, str], snapshot: Snapshot) -> None:
    namespace, name = named
    full = f"{namespace}/{name}"
    report.looked_at += 1
    secret = next((one for one in snapshot.secrets if one.metadata.namespace == namespace and one.metadata.name == name), None)
    if secret is None and full in snapshot.gateway_secrets and not _refused(snapshot, namespace):
        report.add(
            ref,
            "SECRET-MISSING",
            Level.ERROR,
            found=f"port {port} shows a certificate from Secret {full}, which does not exist: no client gets a handshake",
            wanted="the Secret of every server exists beside the gateway's pods",
            fix=f"make the Secret, or correct tls.credentialName: kubectl -n {namespace} get secret {name}",
            detail=f"{port} {name}",
        )
    elif secret is None:
        reason = f"Secret {full}, from which Gateway {ref.name} shows its certificate, was not looked at"
        report.ask(Unknown(reason=f"{reason}: {BY_NAME}"))
    elif secret.problem:
        report.add(
            ref,
            "SECRET-INVALID",
            Level.ERROR,
            found=f"port {port} shows a certificate from Secret {full}, which no gateway can use: {secret.problem}",
            wanted="a Secret with a certificate and its key",
            fix=f"make the Secret anew: kubectl -n {namespace} get secret {name}",
            detail=f"{port} {name}",
        )


def _refused(snapshot: Snapshot, namespace: str) -> bool:
    return any(item.namespace in ("", namespace) for item in snapshot.unread("secrets"))


def _gateway_conflicts(report: Report, snapshot: Snapshot, pods: Everywhere) -> None:
    """Two Gateways of the same pods with the same host at the same port (IST0145)."""
    seen: dict[tuple[int, str, str], list[tuple[Gateway, GatewayServer]]] = {}
    for item in snapshot.gateways:
        for server in item.spec.servers:
            for host in server.hosts:
                seen.setdefault((server.port.number, server.bind, host), []).append((item, server))
    for (port, _, host), found in seen.items():
        for item, server in found:
            if item.metadata.namespace != snapshot.namespace:
                continue
            others = [other for other, _ in found if other.metadata != item.metadata and _same_pods(item, other, pods)]
            if not others:
                continue
            names = ", ".join(f"{other.metadata.namespace}/{other.metadata.name}" for other in others[:3])
            tls = server.port.protocol.upper() in _ENCRYPTED
            effect = "of two servers with TLS one is dropped" if tls else "their routes are joined"
            ref = _ref("Gateway", item.metadata)
            report.add(
                ref,
                "GATEWAY-CONFLICT",
                Level.ERROR if tls else Level.WARNING,
                found=f"port {port} serves host {host}, as Gateway {names} of the same pods does: {effect}",
                wanted="each host at each port in one Gateway",
                fix=f"join them into one: {edit(ref)}",
                detail=f"{port} {host}",
            )


def _same_pods(one: Gateway, other: Gateway, pods: Everywhere) -> bool:
    if one.spec.selector == other.spec.selector:
        return True
    return any(other.spec.selector.items() <= pod.labels.items() for pod in pods.select(one.spec.selector))


def _claims(report: Report, snapshot: Snapshot, found: Routes, pods: Everywhere) -> None:
    """Routes by claims of a token, at a gateway whose pods check no token (IST0149)."""
    gateways = {f"{item.metadata.namespace}/{item.metadata.name}": item for item in snapshot.gateways}
    for route in found.objects:
        if route.ref.namespace != snapshot.namespace or not any(match.claims for rule in route.rules for match in rule.matches):
            continue
        for name in route.outside:
            chosen = pods.select(gateways[name].spec.selector) if name in gateways else ()
            if chosen and snapshot.unread("requestauthentications"):
                report.ask(snapshot.unread("requestauthentications")[0])
            elif chosen and not any(_authenticated(pod, snapshot) for pod in chosen):
                report.add(
                    route.ref,
                    "CLAIM-WITHOUT-AUTHENTICATION",
                    Level.ERROR,
                    found=f"it routes by claims of a token, but no RequestAuthentication checks tokens at gateway {name}",
                    wanted="a RequestAuthentication for the gateway's pods",
                    fix=f"add one beside the gateway: kubectl -n {chosen[0].namespace} get requestauthentication",
                    detail=name,
                )


def _authenticated(pod: Metadata, snapshot: Snapshot) -> bool:
    where = (pod.namespace, snapshot.root_namespace)
    return any(
        item.spec.selector is None or item.spec.selector.match_labels.items() <= pod.labels.items()
        for item in snapshot.requestauthentications
        if item.metadata.namespace in where
    )


# --- Sidecars and Telemetries -----------------------------------------------------------------------------------------


def _sidecars(report: Report, snapshot: Snapshot, found: Routes) -> None:
    own = in_namespace(snapshot.sidecars, snapshot.namespace)
    wide = [item for item in own if not _labels(item.spec.workload_selector)]
    _twice(report, "Sidecar", [item.metadata for item in wide], "SIDECARS-WIDE")  # IST0111
    selecting = [(item.metadata, _labels(item.spec.workload_selector)) for item in own if item not in wide]
    _selected_twice(report, "Sidecar", selecting, found.pods, "SIDECARS-OVERLAP")  # IST0110
    for metadata, labels in selecting:
        _nothing(report, "Sidecar", metadata, labels, found.pods, level=Level.ERROR)  # IST0101
    for item in own:
        report.looked_at += 1
        _egress(report, item, found)


def _egress(report: Report, item: Sidecar, found: Routes) -> None:
    """Hosts that it lets callers see, and that are not there."""
    ref = _ref("Sidecar", item.metadata)
    for word in (host for listener in item.spec.egress for host in listener.hosts):
        where, _, name = word.partition("/")
        if where in ("~", "*") or not name or "*" in name:
            continue
        full = found.hosts.fqdn(name, item.metadata.namespace if where == "." else where)
        if found.hosts.known(full) is Known.MISSING:
            report.add(
                ref,
                "SIDECAR-HOST-MISSING",
                Level.WARNING,
                found=f"its egress names {word}, which no Service or ServiceEntry is",
                wanted="every host that a Sidecar names exists",
                fix=f"correct it, or take it out: {edit(ref)}",
                detail=word,
            )


def _telemetries(report: Report, snapshot: Snapshot, pods: PodIndex) -> None:
    own = [item for item in in_namespace(snapshot.telemetries, snapshot.namespace) if not item.spec.target_refs]
    wide = [item.metadata for item in own if not _labels(item.spec.selector)]
    _twice(report, "Telemetry", wide, "TELEMETRIES-WIDE")  # IST0160
    selecting = [(item.metadata, labels) for item in own if (labels := _labels(item.spec.selector))]
    _selected_twice(report, "Telemetry", selecting, pods, "TELEMETRIES-OVERLAP")  # IST0159
    for metadata, labels in selecting:
        report.looked_at += 1
        _nothing(report, "Telemetry", metadata, labels, pods, level=Level.ERROR)  # IST0101


def _labels(selector: WorkloadSelector | None) -> _Labels:
    return {**selector.labels, **selector.match_labels} if selector else {}


def _twice(report: Report, kind: str, wide: list[Metadata], code: str) -> None:
    """Several objects for the whole namespace: istiod takes the oldest."""
    ordered = sorted(wide, key=lambda item: (item.creation_timestamp or "", item.name))
    for item in ordered[1:]:
        ref = _ref(kind, item)
        report.add(
            ref,
            code,
            Level.ERROR,
            found=f"it is for the whole namespace, as the older {kind} {ordered[0].name} is, which istiod takes: this one has no effect",
            wanted=f"one {kind} without a selector in a namespace",
            fix=f"join the two into one: {edit(ref)}",
            detail=ordered[0].name,
        )


def _selected_twice(report: Report, kind: str, selecting: list[tuple[Metadata, _Labels]], pods: PodIndex, code: str) -> None:
    """Several objects that select the same pod: istiod takes the oldest."""
    ordered = sorted(selecting, key=lambda item: (item[0].creation_timestamp or "", item[0].name))
    taken: dict[str, Metadata] = {}
    for metadata, labels in ordered:
        for pod in pods.select(labels):
            first = taken.setdefault(pod.metadata.name, metadata)
            if first is not metadata:
                ref = _ref(kind, metadata)
                report.add(
                    ref,
                    code,
                    Level.ERROR,
                    found=f"it selects pod {pod.metadata.name}, as the older {kind} {first.name} does, which istiod takes",
                    wanted=f"one {kind} for each pod",
                    fix=f"narrow one of the selectors: {edit(ref)}",
                    detail=first.name,
                )


def _nothing(report: Report, kind: str, metadata: Metadata, labels: _Labels, pods: PodIndex, *, level: Level) -> None:
    """A selector that no pod of the namespace matches."""
    if labels and pods.all and not pods.select(labels):
        ref = _ref(kind, metadata)
        report.add(
            ref,
            "SELECTOR",
            level,
            found=f"its selector ({_written(labels)}) matches no pod of the namespace, so it has no effect",
            wanted="every selector matches a pod",
            fix=f"correct the selector, or delete the object: {edit(ref)}",
        )


# --- EnvoyFilters and what else selects pods --------------------------------------------------------------------------


def _envoy_filter(report: Report, item: EnvoyFilter) -> None:
    ref = _ref("EnvoyFilter", item.metadata)
    for index, patch in enumerate(item.spec.config_patches):
        operation = patch.patch.operation if patch.patch else ""
        replaces = operation == "REPLACE" and patch.apply_to not in _REPLACEABLE
        neither = operation in ("ADD", "REMOVE") and patch.apply_to in _NEITHER
        if replaces or neither:
            report.add(
                ref,
                "PATCH-IGNORED",
                Level.ERROR,
                found=f"configPatches[{index}] says {operation} for {patch.apply_to}, which istiod ignores",
                wanted="patches that have an effect",
                fix=f"use another operation, such as MERGE or INSERT_FIRST: {edit(ref)}",
                detail=str(index),
            )


def _selectors(report: Report, snapshot: Snapshot, pods: PodIndex) -> None:
    """Policies, filters and plugins of the namespace that select no pod (IST0127); gateways and waypoints are pods as well."""
    if snapshot.unread("pods") or snapshot.namespace == snapshot.root_namespace:
        return
    groups: tuple[tuple[str, Iterable[tuple[Metadata, WorkloadSelector | None]]], ...] = (
        ("EnvoyFilter", ((item.metadata, item.spec.workload_selector) for item in snapshot.envoyfilters)),
        ("WasmPlugin", ((item.metadata, item.spec.selector) for item in snapshot.wasmplugins)),
        ("TrafficExtension", ((item.metadata, item.spec.selector) for item in snapshot.trafficextensions)),
        ("RequestAuthentication", ((item.metadata, item.spec.selector) for item in snapshot.requestauthentications)),
        ("PeerAuthentication", ((item.metadata, item.spec.selector) for item in snapshot.peerauthentications)),
        ("AuthorizationPolicy", ((item.metadata, item.spec.selector) for item in snapshot.authorizationpolicies)),
    )
    for kind, items in groups:
        for metadata, selector in items:
            if metadata.namespace == snapshot.namespace:
                report.looked_at += 1
                _nothing(report, kind, metadata, _labels(selector), pods, level=Level.WARNING)
