"""Lines 1.1.5, 8.2.2 and 8.2.3: what leaves the mesh is known, held back where it should be, and found by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from pytest_meshready.cluster import objects as o
from pytest_meshready.cluster.snapshot import MeshConfig
from pytest_meshready.istio.egress import Outbound, dependencies_identified, egress_ruled, names_resolve
from pytest_meshready.results import Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import shop


@dataclass(frozen=True)
class Wanted:
    """A dependency as the settings hold it."""

    host: str
    port: int = 0
    owner: str = "payments team"


def entry(
    host: str = "api.bank.example",
    ports: str = "[{number: 443, name: tls, protocol: TLS}]",
    *,
    name: str = "bank",
    where: str = "",
    more: str = "",
) -> str:
    """A ServiceEntry."""
    metadata = f"{{name: {name}{f', namespace: {where}' if where else ''}}}"
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {metadata}
spec: {{hosts: ['{host}'], location: MESH_EXTERNAL, resolution: DNS, ports: {ports}{more}}}
---
"""


def sidecar(name: str = "default", spec: str = "{}", *, where: str = make.NAMESPACE) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {where}}}
spec: {spec}
---
"""


CLOSED = sidecar(spec="{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")


def found(judgement: Judgement) -> dict[tuple[str, str], Level]:
    return {(item.code, f"{item.object.kind}/{item.object.name}"): item.level for item in judgement.findings}


# --- 1.1.5 ---


def test_nothing_outside() -> None:
    """The shop names nothing outside of the cluster; its Services and workloads were looked at."""
    judgement = dependencies_identified(shop())
    assert (judgement.status, judgement.findings, judgement.examined) == (Status.PASSED, (), 8)
    assert judgement.summary == "outside of the cluster, objects name nothing"


def test_without_a_list_the_objects_are_the_declaration() -> None:
    """A ServiceEntry names host, port and protocol: that is identified."""
    judgement = dependencies_identified(shop(entry()))
    assert (judgement.status, judgement.findings) == (Status.PASSED, ())
    assert judgement.evidence[0].data[0]["host"] == "api.bank.example"


def test_what_the_list_does_not_name() -> None:
    """ServiceEntries, ExternalNames and addresses behind Services without a selector are compared with the list."""
    addresses = o.EndpointSlice(
        metadata=make.metadata("old-db-1", labels={"kubernetes.io/service-name": "old-db"}),
        endpoints=(o.Endpoint(addresses=("10.1.2.3",)),),
    )
    services = (
        make.service("crm", selector={}, type="ExternalName", external_name="CRM.example.com.", ports=()),
        make.service("alias", selector={}, type="ExternalName", external_name="orders.payments.svc.cluster.local", ports=()),
        make.service("old-db", selector={}, ports=(("tcp", 5432),)),
    )
    fields: dict[str, Any] = {"services": services, "endpointslices": (addresses,)}
    declared = (Wanted("*.bank.example"), Wanted("crm.example.com"), Wanted("10.1.2.3", 5432))
    assert found(dependencies_identified(shop(entry(), **fields), declared)) == {}
    assert found(dependencies_identified(shop(entry(), **fields), ())) == {
        ("MR115-UNDECLARED", "ServiceEntry/bank"): Level.WARNING,
        ("MR115-UNDECLARED", "Service/crm"): Level.WARNING,
        ("MR115-UNDECLARED", "Service/old-db"): Level.WARNING,
    }


def test_another_port_and_no_owner() -> None:
    """A declared port must be one that is opened; nobody to call is told."""
    declared = (Wanted("api.bank.example", 8443, owner=""),)
    assert found(dependencies_identified(shop(entry()), declared)) == {
        ("MR115-OTHER-PORT", "ServiceEntry/bank"): Level.WARNING,
        ("MR115-NO-OWNER", "Namespace/payments"): Level.INFO,
    }


def test_traffic_past_the_proxy_leaves_no_trace() -> None:
    """It is told which workloads lead some past it."""
    around = make.deployment("orders", annotations={"traffic.sidecar.istio.io/excludeOutboundPorts": "5432"})
    judgement = dependencies_identified(shop(deployments=(around,), pods=make.pods_of(around)))
    assert found(judgement) == {("MR115-BYPASS", "Deployment/orders"): Level.INFO}
    assert "excludeOutboundPorts: 5432" in judgement.findings[0].found


@pytest.mark.parametrize("key", ["serviceentries", "services", "pods"])
def test_dependencies_that_may_not_be_read(key: str) -> None:
    """A refused list leaves the line not verified."""
    assert dependencies_identified(shop(refusals=(make.refusal(key),))).status is Status.NOT_VERIFIED


# --- 8.2.2 ---


def mesh(mode: str) -> MeshConfig:
    return MeshConfig(root_namespace=make.ISTIO, outbound_traffic_policy={"mode": mode} if mode else {})


def test_everything_may_be_called() -> None:
    """ALLOW_ANY is Istio's default: no matter of this line, until the mesh is hardened."""
    assert egress_ruled(shop()).status is Status.NOT_APPLICABLE
    assert found(egress_ruled(shop(), hardened=True)) == {("MR822-ALLOW-ANY", "Namespace/payments"): Level.WARNING}
    assert egress_ruled(shop(mesh=mesh("ALLOW_ANY_DYNAMIC_DNS"))).status is Status.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("", "", "ALLOW_ANY"),
        ("", "REGISTRY_ONLY", "REGISTRY_ONLY"),
        (sidecar(), "REGISTRY_ONLY", "REGISTRY_ONLY"),
        (sidecar(spec="{outboundTrafficPolicy: {}}"), "ALLOW_ANY", "REGISTRY_ONLY"),
        (CLOSED + sidecar("younger", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"), "", "REGISTRY_ONLY"),
        (CLOSED + sidecar("own", "{workloadSelector: {labels: {app: orders}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}"), "", "ALLOW_ANY"),
        (CLOSED + sidecar("own", "{workloadSelector: {labels: {app: orders}}}"), "ALLOW_ANY", "ALLOW_ANY"),
        (sidecar(spec="{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", where=make.ISTIO), "", "REGISTRY_ONLY"),
        (sidecar(spec="{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", where=make.ISTIO) + sidecar(), "ALLOW_ANY", "ALLOW_ANY"),
    ],
)
def test_the_mode_of_a_workload(text: str, mode: str, said: str) -> None:
    """The Sidecar that selects it, the namespace's oldest, the root namespace's, the mesh; only one of them counts."""
    assert Outbound(shop(text, mesh=mesh(mode))).mode({"app": "orders", "version": "v1"}) == said


def test_registry_only_with_its_entries() -> None:
    """Each declared dependency has a ServiceEntry that the workloads see."""
    judgement = egress_ruled(shop(CLOSED + entry()), (Wanted("api.bank.example", 443),))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CLOSED, "no ServiceEntry names it"),
        (CLOSED + entry(ports="[{number: 8443, name: tls, protocol: TLS}]"), "does not open that port"),
        (CLOSED + entry(where="edge", more=", exportTo: ['.']"), "ServiceEntry edge/bank is not visible"),
        (
            sidecar(spec="{egress: [{hosts: ['./*', 'istio-system/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
            + entry(where="edge"),
            "ServiceEntry edge/bank is not visible",
        ),
    ],
)
def test_dependencies_that_cannot_be_called(text: str, why: str) -> None:
    """No entry, another port, not exported, or outside of the Sidecar's egress hosts."""
    judgement = egress_ruled(shop(text), (Wanted("api.bank.example", 443),))
    assert found(judgement) == {("MR822-NO-ENTRY", "Namespace/payments"): Level.ERROR}
    assert why in judgement.findings[0].found


def test_entries_of_other_namespaces_count() -> None:
    """Exported to everybody and within the egress hosts."""
    text = sidecar(spec="{egress: [{hosts: ['edge/*.bank.example']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}") + entry(where="edge")
    assert egress_ruled(shop(text), (Wanted("api.bank.example"),)).status is Status.PASSED


def test_some_workloads_are_not_held_back() -> None:
    """One Sidecar of a workload opens what the namespace's closes."""
    text = CLOSED + sidecar("own", "{workloadSelector: {labels: {app: orders}}, outboundTrafficPolicy: {mode: ALLOW_ANY}}")
    judgement = egress_ruled(shop(text))
    assert found(judgement) == {("MR822-MIXED", "Namespace/payments"): Level.WARNING}
    assert judgement.findings[0].found.endswith("orders")


def test_entries_that_open_too_much() -> None:
    """A TCP port without addresses opens it to every address, a * to every host."""
    plain = "[{number: 5432, name: tcp, protocol: TCP}]"
    text = CLOSED + entry("db.example", plain, name="db").replace("resolution: DNS", "resolution: NONE") + entry("*", name="all")
    assert found(egress_ruled(shop(text))) == {
        ("MR822-OPEN-PORT", "ServiceEntry/db"): Level.WARNING,
        ("MR822-ANY-HOST", "ServiceEntry/all"): Level.WARNING,
    }


def test_without_sidecars_nothing_is_held_back() -> None:
    """Ztunnel and pods without a proxy know no outboundTrafficPolicy."""
    bare = tuple(pod for name in ("orders", "ledger") for pod in make.pods_of(make.deployment(name), meshed=False))
    snapshot = shop(CLOSED, pods=bare, deployments=(make.deployment("orders"), make.deployment("ledger")))
    assert egress_ruled(snapshot, hardened=True).status is Status.NOT_APPLICABLE


@pytest.mark.parametrize(("key", "namespace"), [("sidecars", make.NAMESPACE), ("sidecars", make.ISTIO), ("serviceentries", "")])
def test_egress_that_may_not_be_read(key: str, namespace: str) -> None:
    """A refused list leaves the line not verified, not inapplicable."""
    assert egress_ruled(shop(refusals=(make.refusal(key, namespace=namespace),))).status is Status.NOT_VERIFIED
    assert egress_ruled(shop(mesh=None)).status is Status.NOT_VERIFIED


# --- 8.2.3 ---


def test_the_shops_names() -> None:
    """Four Services, nothing outside."""
    judgement = names_resolve(shop())
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 4, ())


def test_a_tcp_entry_needs_an_address() -> None:
    """Without one, proxies take everything at that port for it (IST0134); istiod may have chosen one itself."""
    text = entry("db.example", "[{number: 5432, name: tcp, protocol: TCP}]", name="db")
    assert found(names_resolve(shop(text))) == {("MR823-NO-ADDRESS", "ServiceEntry/db"): Level.ERROR}
    assert found(names_resolve(shop(text.replace("ports:", "addresses: [240.240.0.1], ports:")))) == {}
    allocated = shop(text.replace("---", "status: {addresses: [{value: 240.240.0.7, host: db.example}]}\n---"))
    assert found(names_resolve(allocated)) == {}
    capture = {"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true"}
    assert found(names_resolve(shop(text, mesh=MeshConfig(default_config={"proxyMetadata": capture})))) == {}
    assert found(names_resolve(shop(entry()))) == {}


def test_a_tcp_entry_of_another_namespace() -> None:
    """It catches our traffic where proxies here see it: not where it is not exported, nor beyond the egress of our Sidecar."""
    text = entry("db.example", "[{number: 5432, name: tcp, protocol: TCP}]", name="db").replace(
        "{name: db}", "{name: db, namespace: billing}"
    )
    assert "namespace: billing" in text
    warned = {("MR823-NO-ADDRESS", "ServiceEntry/db"): Level.WARNING}
    assert found(names_resolve(shop(text))) == warned
    assert found(names_resolve(shop(text.replace("ports:", 'exportTo: ["."], ports:')))) == {}
    narrow = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ["./*", "istio-system/*"]}]}
---
"""
    assert found(names_resolve(shop(text + narrow))) == {}
    assert names_resolve(shop(text, refusals=(make.refusal("sidecars"),))).status is Status.NOT_VERIFIED
    assert names_resolve(shop(refusals=(make.refusal("sidecars"),))).status is Status.PASSED


def test_another_name_of_nothing() -> None:
    """An ExternalName that means a Service of a namespace that was read, and is not there."""
    names = {"good": "orders.payments.svc.cluster.local", "bad": "oders.payments.svc.cluster.local", "far": "x.billing.svc.cluster.local"}
    extra = tuple(make.service(name, selector={}, type="ExternalName", external_name=host, ports=()) for name, host in names.items())
    snapshot = shop()
    snapshot = msgspec.structs.replace(snapshot, services=(*snapshot.services, *extra))
    assert found(names_resolve(snapshot)) == {("MR823-NO-SUCH-SERVICE", "Service/bad"): Level.ERROR}


@pytest.mark.parametrize("key", ["services", "serviceentries"])
def test_names_that_may_not_be_read(key: str) -> None:
    """A refused list leaves the line not verified."""
    assert names_resolve(shop(refusals=(make.refusal(key),))).status is Status.NOT_VERIFIED
