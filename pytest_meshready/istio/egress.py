"""What leaves the mesh: lines 1.1.5, 8.2.2 and 8.2.3, as the objects say (checks.md 1.1.5, 8.2.2, 8.2.3).

Whether a proxy lets traffic to unknown hosts pass is decided by the oldest Sidecar that selects the pod, then the oldest of its
namespace, then that of the root namespace, then the mesh configuration (pilot/pkg/model/sidecar.go and push_context.go). A
``outboundTrafficPolicy`` without a mode is REGISTRY_ONLY, the first value of the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_meshready.cluster.objects_traffic import ServiceEntry, Sidecar
from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio import membership
from pytest_meshready.istio.callers import mesh_config
from pytest_meshready.istio.clientmodes import cluster_domain
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.dataplane import DataPlane, dataplane_class, proxies
from pytest_meshready.istio.hosts import HERE, exported, matches, overlap
from pytest_meshready.istio.membership import Member, members
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.istio.policy import label_sets
from pytest_meshready.istio.wording import shortened
from pytest_meshready.results import Evidence, Finding, Judgement, Level, ObjectRef, Unknown

#: What `dependencies_identified` reads.
READS_115 = (*membership.READS, "services", "serviceentries", "endpointslices")

#: What `egress_ruled` reads, besides the mesh configuration.
READS_822 = (*membership.READS, "sidecars", "serviceentries", "configmaps")

#: What `names_resolve` reads.
READS_823 = ("services", "serviceentries", "pods", "configmaps", "sidecars")

ALLOW_ANY, REGISTRY_ONLY = "ALLOW_ANY", "REGISTRY_ONLY"

#: Annotations by which traffic leaves past the proxy, so that nothing of Istio's sees it.
_BYPASSES = ("excludeOutboundIPRanges", "excludeOutboundPorts", "includeOutboundIPRanges", "includeOutboundPorts")
_PREFIX = "traffic.sidecar.istio.io/"

_EXTERNAL = frozenset({"", "MESH_EXTERNAL"})
_SERVICE_LABEL = "kubernetes.io/service-name"
_CAPTURE, _ALLOCATE = "ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE"


class Dependency(Protocol):
    """Something outside of the cluster that the team declared; ``port`` 0 stands for all."""

    @property
    def host(self) -> str:
        """A DNS name, perhaps with a wildcard before it, or an address."""

    @property
    def port(self) -> int:
        """Its port."""

    @property
    def owner(self) -> str:
        """Who answers for it; empty if nobody was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """Something outside of the mesh that an object names; ``ports`` none: any, or not said."""

    host: str
    ref: ObjectRef
    ports: tuple[int, ...] = ()
    how: str = ""

    def is_of(self, dependency: Dependency) -> bool:
        """Whether it is a dependency that was declared, by its host."""
        return overlap(self.host, dependency.host)


# --- 1.1.5 ------------------------------------------------------------------------------------------------------------


def dependencies_identified(snapshot: Snapshot, declared: Iterable[Dependency] | None = None) -> Judgement:
    """Line 1.1.5, what the objects say: what the namespace calls outside of the cluster is known by name.

    Warnings: something that an object names and the team's list does not; a declared port that the object does not open.
    Informations: a declaration without an owner; workloads whose traffic leaves past the proxy, so that nothing shows where to.

    Args:
        snapshot: of the cluster.
        declared: the team's list; None if there is none, and then the objects are the declaration.
    """
    found = tuple(_externals(snapshot))
    known = None if declared is None else tuple(declared)
    findings = [finding for item in found for finding in _undeclared(item, known)] if known is not None else []
    findings += [_ownerless(snapshot, item) for item in known or () if not item.owner]
    findings += _bypassing(snapshot)
    named = len(found) + len(known or ())
    looked = len(in_namespace(snapshot.services, snapshot.namespace)) + len(members(snapshot)) + named
    listed = shortened(dict.fromkeys(item.host for item in found)) or "nothing"
    return Judgement(
        summary=f"outside of the cluster, objects name {listed}" + ("" if known is None else f"; {len(known)} dependencies are declared"),
        examined=looked,
        findings=tuple(findings),
        unknown=unread_in(snapshot, snapshot.namespace, *READS_115),
        evidence=(Evidence(kind="table", source="ServiceEntries and Services", data=[_row(item) for item in found]),),
    )


def _row(item: External) -> dict[str, str]:
    return {"host": item.host, "ports": ", ".join(map(str, item.ports)), "object": str(item.ref), "how": item.how}


def _externals(snapshot: Snapshot) -> Iterator[External]:
    """What the objects of the namespace name outside of the cluster."""
    for entry in in_namespace(snapshot.serviceentries, snapshot.namespace):
        if entry.spec.location in _EXTERNAL:
            ports = tuple(port.number for port in entry.spec.ports)
            yield from (External(host=host.lower(), ref=_ref(entry), ports=ports, how="ServiceEntry") for host in entry.spec.hosts)
    suffix = f".svc.{cluster_domain(snapshot)}"
    addresses = _addresses(snapshot)
    for service in in_namespace(snapshot.services, snapshot.namespace):
        ref = ObjectRef(kind="Service", namespace=snapshot.namespace, name=service.metadata.name)
        ports = tuple(port.port for port in service.spec.ports)
        name = service.spec.external_name.rstrip(".").lower()
        if service.spec.type == "ExternalName":
            if name and not name.endswith(suffix):
                yield External(host=name, ref=ref, ports=ports, how="ExternalName")
        elif not service.spec.selector:
            for address in addresses.get(service.metadata.name, ()):
                yield External(host=address, ref=ref, ports=ports, how="Service without selector")


def _addresses(snapshot: Snapshot) -> dict[str, list[str]]:
    """The addresses behind each Service of the namespace that are no pods."""
    found: dict[str, list[str]] = {}
    for item in in_namespace(snapshot.endpointslices, snapshot.namespace):
        outside = [endpoint for endpoint in item.endpoints or () if endpoint.target_ref is None or endpoint.target_ref.kind != "Pod"]
        for endpoint in outside:
            found.setdefault(item.metadata.labels.get(_SERVICE_LABEL, ""), []).extend(endpoint.addresses)
    return found


def _undeclared(item: External, known: tuple[Dependency, ...]) -> Iterator[Finding]:
    declared = [dependency for dependency in known if item.is_of(dependency)]
    resource = item.ref.kind.lower()
    if not declared:
        yield Finding(
            code="MR115-UNDECLARED",
            level=Level.WARNING,
            object=item.ref,
            found=f"it names {item.host}, which is not among the declared dependencies",
            wanted="every dependency outside of the cluster declared, with its owner",
            fix=f"add it as [[dependency]] to the settings, or remove it: kubectl -n {item.ref.namespace} get {resource} {item.ref.name}",
            detail=item.host,
        )
    for dependency in declared:
        if dependency.port and item.ports and dependency.port not in item.ports:
            yield Finding(
                code="MR115-OTHER-PORT",
                level=Level.WARNING,
                object=item.ref,
                found=f"it opens port {shortened(map(str, item.ports))} of {item.host}, but port {dependency.port} is declared",
                wanted="the same ports in both",
                fix=f"correct one of the two: kubectl -n {item.ref.namespace} edit {resource} {item.ref.name}",
                detail=f"{item.host}:{dependency.port}",
            )


def _ownerless(snapshot: Snapshot, item: Dependency) -> Finding:
    return Finding(
        code="MR115-NO-OWNER",
        level=Level.INFO,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"dependency {item.host} is declared without an owner",
        wanted="somebody to call when it fails",
        fix="add owner to its [[dependency]] in the settings",
        detail=f"{item.host}:{item.port}",
    )


def _bypassing(snapshot: Snapshot) -> Iterator[Finding]:
    """Workloads whose annotations lead traffic past the proxy."""
    for member in members(snapshot):
        of = member.workload.pods[0] if member.workload.pods else member.workload.template
        annotations = {**member.workload.template.metadata.annotations, **of.metadata.annotations}
        said = [f"{word}: {value}" for word in _BYPASSES if (value := annotations.get(_PREFIX + word, "")) not in ("", "*")]
        if said:
            yield Finding(
                code="MR115-BYPASS",
                level=Level.INFO,
                object=member.workload.ref,
                found=f"some of its traffic leaves past the proxy, so no metric shows where to ({shortened(said)})",
                wanted="its dependencies there declared by the team",
                fix=f"declare them as [[dependency]], or take the annotation out of {member.workload.kind} {member.name}",
            )


# --- 8.2.2 ------------------------------------------------------------------------------------------------------------


class Outbound:
    """Whether proxies let traffic to unknown hosts pass, and what they see."""

    def __init__(self, snapshot: Snapshot) -> None:
        said = snapshot.mesh.outbound_traffic_policy if snapshot.mesh else {}
        self.mesh_mode = str(said.get("mode") or ALLOW_ANY)
        own = sorted(in_namespace(snapshot.sidecars, snapshot.namespace), key=_age)
        root = sorted(in_namespace(snapshot.sidecars, snapshot.root_namespace), key=_age)
        self._selecting = [item for item in own if item.spec.workload_selector is not None]
        wide = [item for item in (*own, *root) if item.spec.workload_selector is None]
        self._wide = wide[0] if wide else None

    def sidecar(self, labels: Mapping[str, str]) -> Sidecar | None:
        """The Sidecar of the pods with these labels."""
        for item in self._selecting:
            selector = item.spec.workload_selector
            if selector is not None and selector.labels.items() <= labels.items():
                return item
        return self._wide

    def mode(self, labels: Mapping[str, str]) -> str:
        """``REGISTRY_ONLY``, or a word that lets everything pass."""
        item = self.sidecar(labels)
        policy = item.spec.outbound_traffic_policy if item is not None else None
        return self.mesh_mode if policy is None else policy.mode or REGISTRY_ONLY


def egress_ruled(snapshot: Snapshot, declared: Iterable[Dependency] | None = None, *, hardened: bool = False) -> Judgement:
    """Line 8.2.2, what the objects say: where only known hosts may be called, the declared ones are known.

    Errors: a declared dependency without a ServiceEntry that the workloads see. Warnings: ALLOW_ANY in a mesh that is hardened;
    workloads beside others that are not restricted; a ServiceEntry that opens more than it says. The line does not apply while
    everything may be called.

    Args:
        snapshot: of the cluster.
        declared: the team's list of dependencies; None if there is none.
        hardened: whether the rollout has reached that phase.
    """
    outbound = Outbound(snapshot)
    unknown = list(_mesh_unknown(snapshot)) + list(unread_in(snapshot, snapshot.namespace, *READS_822))
    unknown += unread_in(snapshot, snapshot.root_namespace, "sidecars")
    obeying = [item for item in members(snapshot) if item.meshed and not _is_ambient(item)]
    modes = {item.name: {outbound.mode(labels) for labels in label_sets(item.workload)} for item in obeying}
    closed = [item for item in obeying if REGISTRY_ONLY in modes[item.name]]
    opened = [item.name for item in obeying if modes[item.name] != {REGISTRY_ONLY}]
    rows = [{"workload": name, "mode": ", ".join(sorted(own))} for name, own in modes.items()]
    table = Evidence(kind="table", source="Sidecars", data=rows)
    if not closed and not unknown:
        return _all_open(snapshot, outbound, opened, table, hardened=hardened)
    findings: list[Finding] = []
    named = tuple(declared or ())
    known = "every declared dependency has a ServiceEntry" if named else "no dependency is declared that could be compared"
    if closed:
        findings += [_mixed(snapshot, opened)] if opened else []
        findings += _unreachable(snapshot, outbound, closed, named)
        findings += _too_open(snapshot)
    return Judgement(
        summary=f"REGISTRY_ONLY for all {len(closed)} workloads; {known}",
        examined=len(closed),
        findings=tuple(findings),
        unknown=tuple(dict.fromkeys(unknown)),
        evidence=(table,),
    )


def _mesh_unknown(snapshot: Snapshot) -> tuple[Unknown, ...]:
    if snapshot.mesh is not None:
        return ()
    missing = Unknown(reason=f"the mesh configuration was not found: there is no {mesh_config(snapshot)}")
    return snapshot.unread("configmaps") or (missing,)


def _is_ambient(member: Member) -> bool:
    """Whether ztunnel carries its traffic, which lets everything pass."""
    return any(dataplane_class(pod) is DataPlane.AMBIENT for pod in member.workload.pods)


def _all_open(snapshot: Snapshot, outbound: Outbound, opened: list[str], table: Evidence, *, hardened: bool) -> Judgement:
    """Nothing is held back: before the mesh is hardened that is no matter of this line."""
    if not opened:
        return Judgement(not_applicable="no workload has a sidecar, which is what holds traffic back", examined=1, evidence=(table,))
    if not hardened:
        why = f"outboundTrafficPolicy is {outbound.mesh_mode}: every host may be called"
        return Judgement(not_applicable=why, examined=len(opened), evidence=(table,))
    found = Finding(
        code="MR822-ALLOW-ANY",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"its {len(opened)} workloads may call every host, known or not (outboundTrafficPolicy {outbound.mesh_mode})",
        wanted="REGISTRY_ONLY and a ServiceEntry for each dependency, once the mesh is hardened",
        fix=f"set spec.outboundTrafficPolicy.mode: REGISTRY_ONLY in its Sidecar: kubectl -n {snapshot.namespace} get sidecars",
    )
    return Judgement(examined=len(opened), findings=(found,), evidence=(table,))


def _mixed(snapshot: Snapshot, opened: list[str]) -> Finding:
    return Finding(
        code="MR822-MIXED",
        level=Level.WARNING,
        object=ObjectRef(kind="Namespace", name=snapshot.namespace),
        found=f"some workloads may call known hosts alone, but every host may be called by {shortened(opened)}",
        wanted="one outboundTrafficPolicy for the namespace",
        fix=f"compare: kubectl -n {snapshot.namespace} get sidecars -o yaml",
    )


def _unreachable(snapshot: Snapshot, outbound: Outbound, closed: list[Member], declared: tuple[Dependency, ...]) -> Iterator[Finding]:
    """Declared dependencies that no ServiceEntry opens to the workloads."""
    for dependency in declared:
        covering = [item for item in snapshot.serviceentries if any(matches(host, dependency.host) for host in _opened(item))]
        open_ = [item for item in covering if not dependency.port or dependency.port in {port.number for port in item.spec.ports}]
        blind = [member.name for member in closed if not any(_sees_entry(outbound, member, item) for item in open_)]
        if not blind:
            continue
        host = f"{dependency.host}:{dependency.port}" if dependency.port else dependency.host
        if open_:
            why = f"ServiceEntry {open_[0].metadata.namespace}/{open_[0].metadata.name} is not visible to {shortened(blind)}"
        elif covering:
            why = f"ServiceEntry {covering[0].metadata.namespace}/{covering[0].metadata.name} does not open that port"
        else:
            why = "no ServiceEntry names it"
        yield Finding(
            code="MR822-NO-ENTRY",
            level=Level.ERROR,
            object=ObjectRef(kind="Namespace", name=snapshot.namespace),
            found=f"dependency {host} cannot be called, because {why}",
            wanted="a ServiceEntry for each dependency, in the namespace or exported to it, and within the egress hosts of its Sidecar",
            fix=f"add or correct it; what is there: kubectl -n {snapshot.namespace} get serviceentries,sidecars -o yaml",
            detail=host,
        )


def _opened(item: ServiceEntry) -> Iterator[str]:
    """The hosts and addresses of a ServiceEntry."""
    yield from (host.lower() for host in item.spec.hosts)
    yield from (address.partition("/")[0] for address in item.spec.addresses)
    yield from (endpoint.address for endpoint in item.spec.endpoints)


def _sees_entry(outbound: Outbound, member: Member, item: ServiceEntry) -> bool:
    namespace = member.workload.ref.namespace
    return any(_sees(outbound.sidecar(labels), item, namespace) for labels in label_sets(member.workload))


def _sees(sidecar: Sidecar | None, item: ServiceEntry, namespace: str) -> bool:
    """Whether pods with this Sidecar get a ServiceEntry."""
    own = item.metadata.namespace
    visible = exported(item.spec.export_to, own)
    if visible and "*" not in visible and namespace not in visible:
        return False
    if sidecar is None or not sidecar.spec.egress:
        return True
    for listener in sidecar.spec.egress:
        for pattern in listener.hosts:
            place, slash, name = pattern.partition("/")
            within = not slash or place == "*" or own == (namespace if place == HERE else place)
            if within and any(overlap(name if slash else pattern, host.lower()) for host in item.spec.hosts):
                return True
    return False


def _too_open(snapshot: Snapshot) -> Iterator[Finding]:
    """ServiceEntries of the namespace that open more than one host."""
    for item in in_namespace(snapshot.serviceentries, snapshot.namespace):
        edit = f"kubectl -n {snapshot.namespace} edit serviceentry {item.metadata.name}"
        if "*" in item.spec.hosts:
            yield Finding(
                code="MR822-ANY-HOST",
                level=Level.WARNING,
                object=_ref(item),
                found="it names the host *, so every host may be called at its ports",
                wanted="the hosts that are meant",
                fix=edit,
            )
        plain = [port.number for port in item.spec.ports if port.protocol.upper() in ("TCP", "")]
        if plain and not item.spec.addresses and not item.status.addresses and item.spec.resolution in ("", "NONE"):
            yield Finding(
                code="MR822-OPEN-PORT",
                level=Level.WARNING,
                object=_ref(item),
                found=f"it opens TCP port {shortened(map(str, plain))} without addresses, so every address may be called there",
                wanted="addresses, or the protocol TLS, by whose server name hosts are told apart",
                fix=edit,
            )


# --- 8.2.3 ------------------------------------------------------------------------------------------------------------


def names_resolve(snapshot: Snapshot) -> Judgement:
    """Line 8.2.3, what the objects say: names lead somewhere, and proxies can tell apart what they lead to.

    Errors: a TCP port of a ServiceEntry without an address, which catches what is meant for others; an ExternalName that means
    a Service that does not exist. Warnings: such a port of a ServiceEntry of another namespace, where proxies here see it.
    """
    services = in_namespace(snapshot.services, snapshot.namespace)
    entries = in_namespace(snapshot.serviceentries, snapshot.namespace)
    foreign, unknown = _foreign(snapshot)
    findings = [*_without_address(snapshot, (*entries, *foreign)), *_leading_nowhere(snapshot)]
    captured = str(_metadata(snapshot).get(_CAPTURE, "")) == "true"
    return Judgement(
        summary=f"{len(services)} Services and {len(entries)} ServiceEntries have names that lead somewhere",
        examined=len(services) + len(entries),
        findings=tuple(findings),
        unknown=(*unread_in(snapshot, snapshot.namespace, "services", "serviceentries"), *unknown),
        evidence=(
            Evidence(
                kind="note",
                source=str(mesh_config(snapshot)),
                text=f"proxies {'answer' if captured else 'do not answer'} DNS queries of applications themselves ({_CAPTURE})",
            ),
        ),
    )


def _metadata(snapshot: Snapshot) -> Mapping[str, object]:
    said = snapshot.mesh.default_config.get("proxyMetadata") if snapshot.mesh else None
    return said if isinstance(said, dict) else {}


def _foreign(snapshot: Snapshot) -> tuple[list[ServiceEntry], tuple[Unknown, ...]]:
    """The ServiceEntries of other namespaces that the workloads see; unknown where it takes Sidecars to tell."""
    own = snapshot.namespace
    catching = [item for item in snapshot.serviceentries if item.metadata.namespace != own and _catching(item) and _sees(None, item, own)]
    unread = (*unread_in(snapshot, own, "sidecars"), *unread_in(snapshot, snapshot.root_namespace, "sidecars")) if catching else ()
    if unread or not catching:
        return [], tuple(dict.fromkeys(unread))
    outbound = Outbound(snapshot)
    scopes = [outbound.sidecar(pod.metadata.labels) for pod in in_namespace(snapshot.pods, own) if proxies(pod)]
    return [item for item in catching if any(_sees(scope, item, own) for scope in scopes)], ()


def _catching(item: ServiceEntry) -> list[int]:
    """Its TCP ports, if it has no address by which they are told from others."""
    plain = [port.number for port in item.spec.ports if port.protocol.upper() in ("TCP", "")]
    return plain if not item.spec.addresses and not item.status.addresses else []


def _without_address(snapshot: Snapshot, entries: Iterable[ServiceEntry]) -> Iterator[Finding]:
    """Istio's own message IST0134; istiod writes the addresses that it chose itself into the status (since 1.25)."""
    metadata = _metadata(snapshot)
    if not snapshot.is_deployed or (metadata.get(_CAPTURE) == "true" and metadata.get(_ALLOCATE) == "true"):
        return
    for item in entries:
        if plain := _catching(item):
            yield Finding(
                code="MR823-NO-ADDRESS",
                level=Level.ERROR if item.metadata.namespace == snapshot.namespace else Level.WARNING,
                object=_ref(item),
                found=f"its TCP port {shortened(map(str, plain))} has no address, so proxies take whatever goes to that port for it",
                wanted="spec.addresses, or addresses that istiod allocates",
                fix=f"kubectl -n {item.metadata.namespace} edit serviceentry {item.metadata.name}",
            )


def _leading_nowhere(snapshot: Snapshot) -> Iterator[Finding]:
    """ExternalName Services that name a Service of the cluster that is not there."""
    suffix = f".svc.{cluster_domain(snapshot)}"
    held = [name for name in held_namespaces(snapshot) if not unread_in(snapshot, name, "services")]
    known = {(item.metadata.namespace, item.metadata.name) for item in snapshot.services}
    for service in in_namespace(snapshot.services, snapshot.namespace):
        name = service.spec.external_name.rstrip(".").lower()
        words = name.removesuffix(suffix).split(".")
        if service.spec.type != "ExternalName" or not name.endswith(suffix) or len(words) != 2 or words[1] not in held:
            continue
        if (words[1], words[0]) not in known:
            yield Finding(
                code="MR823-NO-SUCH-SERVICE",
                level=Level.ERROR,
                object=ObjectRef(kind="Service", namespace=snapshot.namespace, name=service.metadata.name),
                found=f"it is another name of {name}, and there is no such Service",
                wanted="the name of a Service that exists",
                fix=f"kubectl -n {words[1]} get services; then: kubectl -n {snapshot.namespace} edit service {service.metadata.name}",
            )


# --- small things -----------------------------------------------------------------------------------------------------


def _ref(item: ServiceEntry) -> ObjectRef:
    return ObjectRef(kind="ServiceEntry", namespace=item.metadata.namespace, name=item.metadata.name)


def _age(item: Sidecar) -> tuple[str, str]:
    return (item.metadata.creation_timestamp or "", item.metadata.name)
