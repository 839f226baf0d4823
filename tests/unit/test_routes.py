"""Which rule answers a request, as istiod decides it."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster.snapshot import MeshConfig, Snapshot
from pytest_meshready.istio import routes
from pytest_meshready.istio.routes import Origin, Route, Routes
from tests.unit import builders as make
from tests.unit.written import route, shop

LEDGER = "ledger.payments.svc.cluster.local"


def to(snapshot: Snapshot, name: str = "ledger", port: int = 8080) -> tuple[Route, ...]:
    """The routes of sidecars to a port of the shop."""
    found = Routes(snapshot)
    host = found.hosts.find(f"{name}.payments.svc.cluster.local")
    assert host is not None
    number = host.port(port)
    assert number is not None
    return found.mesh(host, number)


def test_without_a_rule_istio_decides() -> None:
    """No timeout at all, and two retries without a limit for each try."""
    (only,) = to(shop())
    assert (only.rule, only.timeout, only.retry.attempts, only.retry.per_try, only.origin) == (None, 0.0, 2, None, Origin.ISTIO)
    assert "503" not in only.retry.conditions
    assert only.retry.codes == ()


def test_old_istio_retries_503() -> None:
    """Up to 1.23 status 503 is retried by default."""
    (only,) = to(shop(istio_version="1.23.4"))
    assert only.retry.codes == (503,)


def test_the_mesh_configuration_replaces_the_default() -> None:
    """``defaultHttpRetryPolicy`` holds where no rule speaks; no attempts switch retries off."""
    policy = {"attempts": 4, "perTryTimeout": "1s", "retryOn": "5xx"}
    (only,) = to(shop(mesh=MeshConfig(default_http_retry_policy=policy)))
    assert (only.retry.attempts, only.retry.per_try, only.retry.conditions, only.origin) == (4, 1.0, ("5xx",), Origin.MESH)
    (off,) = to(shop(mesh=MeshConfig(default_http_retry_policy={"perTryTimeout": "2s"})))
    assert off.retry.attempts == 0


def test_the_rule_of_a_virtual_service_is_used() -> None:
    """Its timeout and its retries, with Istio's conditions where it names none."""
    (only,) = to(shop(route("ledger", retries="{attempts: 1}")))
    assert (only.timeout, only.retry.attempts, only.origin) == (5.0, 1, Origin.RULE)
    assert only.retry.conditions == routes.DEFAULT_CONDITIONS


def test_retries_without_attempts_are_off() -> None:
    """``retries`` that only names conditions disables retries (retry.ConvertPolicy)."""
    (only,) = to(shop(route("ledger", retries='{retryOn: "5xx"}')))
    assert only.retry.attempts == 0


def test_short_names_are_the_same_host() -> None:
    """A VirtualService may name its host short."""
    (only,) = to(shop(route("ledger", host="ledger")))
    assert only.rule is not None


def test_a_rule_for_a_gateway_does_not_hold_in_the_mesh() -> None:
    """``gateways`` without ``mesh`` is for nobody with a sidecar."""
    (only,) = to(shop(route("ledger", extra="gateways: [shop]")))
    assert only.rule is None


def test_the_oldest_wins() -> None:
    """Of two VirtualServices for one host istiod takes the older alone."""
    younger = route("ledger", timeout="9s").replace("name: ledger", "name: younger")
    (only,) = to(shop(route("ledger", timeout="1s") + younger))
    assert only.timeout == 1.0


def test_what_is_private_goes_before_what_is_public() -> None:
    """A VirtualService exported to ``.`` beats an older public one, for callers of its namespace."""
    private = route("ledger", timeout="9s", extra='exportTo: ["."]').replace("name: ledger", "name: private")
    (only,) = to(shop(route("ledger", timeout="1s") + private))
    assert only.timeout == 9.0


def test_other_namespaces_may_lead_our_callers() -> None:
    """A VirtualService of any namespace that is exported holds for callers here; one that is not does not."""
    foreign = route("ledger", timeout="3s").replace("name: ledger", "name: ledger, namespace: legacy")
    (only,) = to(shop(foreign))
    assert only.timeout == 3.0
    (none,) = to(shop(foreign.replace("hosts:", 'exportTo: ["."]\n  hosts:')))
    assert none.rule is None


def test_the_very_name_goes_before_wildcards() -> None:
    """However old the wildcard is, and the longer wildcard before the shorter."""
    wide = route("ledger", timeout="1s", host='"*.svc.cluster.local"').replace("name: ledger", "name: wide")
    narrow = route("ledger", timeout="2s", host='"*.payments.svc.cluster.local"').replace("name: ledger", "name: narrow")
    assert to(shop(wide + narrow))[0].timeout == 2.0
    assert to(shop(wide + narrow + route("ledger", timeout="3s")))[0].timeout == 3.0


def test_a_rule_for_another_port_leaves_the_default() -> None:
    """A match on a port that is not called is no rule for this call."""
    (only,) = to(shop(route("ledger", more="match: [{port: 9000}]")))
    assert only.rule is None


def test_rules_behind_one_that_takes_everything_are_not_there() -> None:
    """Istiod itself stops at the first rule that matches everything."""
    text = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ledger}}
spec:
  hosts: [{LEDGER}]
  http:
  - match: [{{uri: {{prefix: /admin}}}}]
    timeout: 1s
    route: [{{destination: {{host: ledger}}}}]
  - timeout: 2s
    route: [{{destination: {{host: ledger}}}}]
  - timeout: 3s
    route: [{{destination: {{host: ledger}}}}]
"""
    assert [item.timeout for item in to(shop(text))] == [1.0, 2.0]


def test_a_sidecar_that_does_not_see_the_host_has_no_route() -> None:
    """A Sidecar of the namespace limits what its callers see."""
    sidecar = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ["istio-system/*"]}]}
"""
    assert to(shop(route("ledger") + sidecar)) == ()
    assert len(to(shop(route("ledger") + sidecar.replace("istio-system/*", "./*")))) == 1


def test_a_sidecar_of_the_root_namespace_holds_too() -> None:
    """Where the namespace has none of its own."""
    sidecar = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {egress: [{hosts: ["./orders.payments.svc.cluster.local"]}]}
"""
    assert to(shop(sidecar)) == ()
    assert len(to(shop(sidecar), "orders")) == 1


def test_delegated_rules_inherit() -> None:
    """What a delegate does not say, the VirtualService that delegates says."""
    text = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: ledger}}
spec:
  hosts: [{LEDGER}]
  http:
  - match: [{{uri: {{prefix: /v1}}}}]
    timeout: 4s
    delegate: {{name: part}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: part}}
spec:
  http:
  - match: [{{method: {{exact: GET}}}}]
    retries: {{attempts: 1}}
    route: [{{destination: {{host: ledger}}}}]
"""
    (only,) = to(shop(text))
    assert (only.timeout, only.retry.attempts) == (4.0, 1)
    assert only.rule is not None
    assert str(only.rule.origin) == "payments/VirtualService/part"
    (match,) = only.rule.matches
    assert (match.value, match.method) == ("/v1", "GET")


def test_routes_of_the_gateway_api_hold_in_the_mesh() -> None:
    """An HTTPRoute whose parent is a Service; its backend's timeout is that of each try where retries are named."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger}
spec:
  parentRefs: [{group: "", kind: Service, name: ledger}]
  rules:
  - timeouts: {request: 6s, backendRequest: 2s}
    retry: {attempts: 2, codes: [503]}
    backendRefs: [{name: ledger, port: 8080}]
"""
    (only,) = to(shop(text))
    assert (only.timeout, only.retry.attempts, only.retry.per_try, only.retry.codes) == (6.0, 2, 2.0, (503,))
    (without,) = to(shop(text.replace("    retry: {attempts: 2, codes: [503]}\n", "")))
    assert without.timeout == 2.0


def test_a_consumer_route_is_for_its_own_namespace() -> None:
    """An HTTPRoute of another namespace for our Service is only for callers there."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger, namespace: legacy}
spec:
  parentRefs: [{group: "", kind: Service, name: ledger, namespace: payments}]
  rules: [{timeouts: {request: 6s}, backendRefs: [{name: ledger, namespace: payments, port: 8080}]}]
"""
    (only,) = to(shop(text))
    assert only.rule is None


def test_gateways_lead_into_the_namespace() -> None:
    """The rules of a gateway are found by where they lead."""
    found = Routes(shop(route("frontend", timeout="10s", host="shop.example.com", extra="gateways: [shop]")))
    (entering,) = found.entering()
    assert (entering.gateway, entering.called, entering.timeout) == ("payments/shop", "frontend:8080 through gateway payments/shop", 10.0)


def test_services_of_gateways_and_runs_are_no_applications() -> None:
    """Who calls a gateway's Service does not call an application."""
    services = (make.service("edge", selector={"istio": "edge"}), make.service("probe", labels={"meshready.io/run": "x"}))
    pods = (make.gateway_pod("edge-1-a", namespace="payments", labels={"istio": "edge"}),)
    assert Routes(make.snapshot(services=services, pods=pods)).callable() == ()


def test_what_was_not_read_is_said_once() -> None:
    """Without the mesh configuration retries are not known; a refused list names its right."""
    assert [item.resource for item in routes.unread(shop(refusals=(make.refusal("virtualservices", namespace=""),)))] == [
        "virtualservices.networking.istio.io"
    ]
    assert "retried" in routes.unread(shop(mesh=None))[0].reason


def test_the_same_snapshot_is_read_once() -> None:
    """All lines share the routes of one snapshot."""
    snapshot = shop()
    assert routes.known_routes(snapshot) is routes.known_routes(snapshot)
    assert routes.known_routes(shop()) is not routes.known_routes(snapshot)


@pytest.mark.parametrize("policy", [[], "5xx", {"attempts": "two"}, {"attempts": -1, "retryOn": 5}])
def test_odd_mesh_policies_do_not_break_it(policy: object) -> None:
    """What is no policy switches nothing on."""
    (only,) = to(shop(mesh=MeshConfig(default_http_retry_policy=policy)))  # type: ignore[arg-type]
    assert only.retry.attempts in (0, 2)
