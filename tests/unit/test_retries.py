"""Line 6.1.2: retries."""

from __future__ import annotations

import pytest

from pytest_meshready.cluster.snapshot import MeshConfig
from pytest_meshready.istio.retries import conservative_retries
from pytest_meshready.results import Finding, Judgement, Level, Status
from tests.unit import builders as make
from tests.unit.written import CAREFUL, CHAIN, route, shop

GATEWAY = route(
    "frontend",
    timeout="10s",
    host="shop.example.com",
    extra="gateways: [shop]",
    retries='{attempts: 2, perTryTimeout: 3s, retryOn: "connect-failure"}',
)
LIMITS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all}
spec:
  host: "*.payments.svc.cluster.local"
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 100}, http: {maxRetries: 3}}}
---
"""
SOUND = CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + route("ledger", retries=CAREFUL)


def told(judgement: Judgement) -> list[Finding]:
    return [finding for finding in judgement.findings if finding.level is not Level.INFO]


def ledger(retries: str, **fields: str) -> list[Finding]:
    """What is said where only the ledger's retries are these."""
    text = CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + route("ledger", retries=retries, **fields)
    return told(conservative_retries(shop(text)))


def test_the_shop_passes() -> None:
    """Two attempts of 1.5 seconds fit into five, and only what has not begun is repeated."""
    judgement = conservative_retries(shop(SOUND))
    assert (judgement.status, judgement.examined, judgement.findings) == (Status.PASSED, 3, ())


def test_ten_attempts_fail() -> None:
    """One request becomes eleven."""
    found = ledger("{attempts: 10, retryOn: connect-failure, perTryTimeout: 100ms}")
    assert [(item.code, item.level) for item in found] == [("MR612-MANY-ATTEMPTS", Level.ERROR), ("MR612-MULTIPLIED", Level.WARNING)]
    assert "up to 11" in found[0].found
    assert "33 times" in found[1].found
    assert str(found[0].object) == "payments/VirtualService/ledger"


def test_four_attempts_warn() -> None:
    """Above three, up to five."""
    found = ledger("{attempts: 4, retryOn: connect-failure, perTryTimeout: 100ms}")
    assert (found[0].code, found[0].level) == ("MR612-MANY-ATTEMPTS", Level.WARNING)


def test_a_try_as_long_as_the_request_fails() -> None:
    """The first try already uses up the timeout."""
    found = ledger("{attempts: 2, perTryTimeout: 2s, retryOn: connect-failure}", timeout="1s")
    assert [(item.code, item.level) for item in found] == [("MR612-TRY-OUTLIVES-TIMEOUT", Level.ERROR)]


def test_tries_that_do_not_fit_warn() -> None:
    """Three tries of two seconds are cut by a timeout of five."""
    found = ledger("{attempts: 2, perTryTimeout: 2s, retryOn: connect-failure}")
    assert [item.code for item in found] == ["MR612-TRIES-CUT"]
    assert "3 tries of 2 s (6 s)" in found[0].found


def test_tries_without_a_limit_warn() -> None:
    """One hanging try takes the whole timeout."""
    assert [item.code for item in ledger("{attempts: 2, retryOn: connect-failure}")] == ["MR612-NO-TRY-TIMEOUT"]


@pytest.mark.parametrize("condition", ["5xx", "gateway-error", "reset", "retriable-4xx"])
def test_conditions_that_repeat_writes_fail(condition: str) -> None:
    """A POST may be done twice (istio/istio#50506 paid out twice)."""
    found = ledger(f'{{attempts: 1, perTryTimeout: 1s, retryOn: "connect-failure,{condition}"}}')
    assert [(item.code, item.level) for item in found] == [("MR612-REPEATS-WRITES", Level.ERROR)]
    assert condition in found[0].found


def test_safe_methods_may_be_repeated() -> None:
    """A rule for GET alone, or a policy that allows nothing else, repeats no write."""
    retries = '{attempts: 1, perTryTimeout: 1s, retryOn: "5xx"}'
    only_get = "match: [{method: {exact: GET}}]\n    "
    assert ledger(retries, more=only_get) == []
    text = CHAIN.replace('serviceAccounts: ["orders"]}}]}]', 'serviceAccounts: ["orders"]}}], to: [{operation: {methods: ["GET"]}}]}]')
    every = text + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + route("ledger", retries=retries)
    assert told(conservative_retries(shop(every))) == []


def test_the_default_that_nobody_chose_warns() -> None:
    """A service without a rule is retried all the same; without a connectTimeout three connections cost 30 seconds."""
    found = told(conservative_retries(shop(CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL))))
    assert [(item.code, str(item.object)) for item in found] == [("MR612-IMPLICIT", "payments/Service/ledger")]
    assert "costs 30 s" in found[0].found


def test_a_rule_that_is_silent_about_retries_relies_on_the_default() -> None:
    """The rule is the object at fault then."""
    found = told(conservative_retries(shop(CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + route("ledger"))))
    assert [(item.code, str(item.object)) for item in found] == [("MR612-IMPLICIT", "payments/VirtualService/ledger")]
    assert "costs 5 s" in found[0].found


def test_retries_that_are_off_say_nothing() -> None:
    """No attempts, nothing to limit."""
    assert ledger("{attempts: 0}") == []


def test_the_mesh_policy_is_judged_like_a_rule() -> None:
    """``meshConfig.defaultHttpRetryPolicy`` is a choice, and may be a bad one."""
    mesh = MeshConfig(default_http_retry_policy={"attempts": 9, "perTryTimeout": "1s", "retryOn": "connect-failure"})
    found = told(conservative_retries(shop(CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL), mesh=mesh)))
    assert (found[0].code, str(found[0].object)) == ("MR612-MANY-ATTEMPTS", "payments/Service/ledger")
    assert "meshConfig.defaultHttpRetryPolicy" in found[0].found


def test_nothing_that_limits_retries_warns() -> None:
    """Without a DestinationRule retries are as many as requests."""
    found = told(conservative_retries(shop(SOUND.replace(LIMITS, ""))))
    assert {item.code for item in found} == {"MR612-NO-BUDGET"}
    assert {item.level for item in found} == {Level.WARNING}


def test_limits_of_all_requests_limit_retries_too() -> None:
    """That there is no budget of retries alone is told, and warns nobody."""
    judgement = conservative_retries(shop(SOUND.replace(", http: {maxRetries: 3}", "")))
    assert judgement.status is Status.PASSED
    assert {(item.code, item.level) for item in judgement.findings} == {("MR612-NO-BUDGET", Level.INFO)}


def test_a_retry_budget_is_a_limit() -> None:
    """``retryBudget`` of Istio 1.27 and later."""
    text = SOUND.replace("{connectionPool: {tcp: {maxConnections: 100}, http: {maxRetries: 3}}}", "{retryBudget: {percent: {value: 20}}}")
    assert conservative_retries(shop(text)).findings == ()


def test_attempts_multiply_along_calls_that_repeat_failures() -> None:
    """The ledger's failure comes back as a 503 of orders, which the frontend's call retries: 4 x 3 tries."""
    found = ledger('{attempts: 3, perTryTimeout: 1s, retryOn: "503"}')
    assert [item.code for item in found] == ["MR612-MULTIPLIED"]
    assert "12 times" in found[0].found
    assert "orders -> ledger" in found[0].found


def test_connections_that_fail_do_not_multiply() -> None:
    """Where calls retry only what their own connection did, nine tries stay nine at most."""
    orders = route("orders", retries='{attempts: 3, perTryTimeout: 1s, retryOn: "connect-failure,refused-stream"}')
    text = CHAIN + LIMITS + GATEWAY + orders + route("ledger", retries='{attempts: 3, perTryTimeout: 1s, retryOn: "503"}')
    assert told(conservative_retries(shop(text))) == []


def test_calls_in_a_circle_end() -> None:
    """Services that may call each other are followed once around."""
    circle = CHAIN.replace("sa/frontend", "sa/ledger")
    text = circle + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + route("ledger", retries=CAREFUL)
    assert told(conservative_retries(shop(text))) == []


def test_services_that_may_all_call_each_other() -> None:
    """Every order of forty services would take for ever; the first chain beyond the limit is enough."""
    names = [f"s{number}" for number in range(40)]
    principals = ", ".join(f'"cluster.local/ns/payments/sa/{name}"' for name in names)
    policies = "".join(
        f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}}}
spec: {{selector: {{matchLabels: {{app: {name}}}}}, rules: [{{from: [{{source: {{principals: [{principals}]}}}}]}}]}}
---
{route(name, retries=CAREFUL.replace("2,", "1,"))}
"""
        for name in names
    )
    deployments = [make.deployment(name) for name in names]
    pods = tuple(pod for item in deployments for pod in make.pods_of(item))
    judgement = conservative_retries(shop(policies, services=tuple(make.service(name) for name in names), pods=pods))
    assert {item.code for item in told(judgement)} == {"MR612-MULTIPLIED", "MR612-NO-BUDGET"}


def test_refused_rules_are_not_verified() -> None:
    """Without DestinationRules it is not known what limits retries."""
    assert conservative_retries(shop(SOUND, refusals=(make.refusal("destinationrules"),))).status is Status.NOT_VERIFIED


@pytest.mark.parametrize(("codes", "fails"), [("503", False), ("502,503", True), ("500", True), ("429", False)])
def test_statuses_that_come_after_the_server_has_begun(codes: str, fails: bool) -> None:
    """Of the statuses only 503 says that nothing was done (checks.md 6.1.2); 500, 502 and 504 are what gateway-error and 5xx mean."""
    found = ledger(f'{{attempts: 2, perTryTimeout: 1s, retryOn: "connect-failure,{codes}"}}')
    assert [(item.code, item.level) for item in found] == ([("MR612-REPEATS-WRITES", Level.ERROR)] if fails else [])


def test_an_http_route_that_retries_statuses() -> None:
    """The Gateway API names nothing but statuses: 500 of a POST may be done twice, 500 of a GET not."""
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ledger}
spec:
  parentRefs: [{group: "", kind: Service, name: ledger}]
  rules:
  - matches: [%s]
    timeouts: {request: 5s, backendRequest: 1s}
    retry: {attempts: 2, codes: [500]}
    backendRefs: [{name: ledger, port: 8080}]
"""
    for match, expected in (("{path: {value: /}}", ["MR612-REPEATS-WRITES"]), ("{method: GET}", [])):
        shop_ = shop(CHAIN + LIMITS + GATEWAY + route("orders", retries=CAREFUL) + text % match)
        assert [item.code for item in told(conservative_retries(shop_)) if item.object.kind == "HTTPRoute"] == expected


@pytest.mark.parametrize("condition", ["deadline-exceeded", "internal", "resource-exhausted", "retriable-headers"])
def test_conditions_that_do_not_say_whether_anything_was_done(condition: str) -> None:
    """Only conditions under which nothing was done pass (checks.md 6.1.2); of these nobody knows, except for safe methods."""
    retries = f'{{attempts: 2, perTryTimeout: 1s, retryOn: "connect-failure,{condition}"}}'
    assert [(item.code, item.level) for item in ledger(retries)] == [("MR612-DOUBTFUL-CONDITIONS", Level.WARNING)]
    assert ledger(retries, more="match: [{method: {exact: GET}}]") == []
