"""What the proxies' counters say: who called in plaintext, what failed, how fast configuration arrives."""

from __future__ import annotations

import math

import pytest

from pytest_meshready.istio import measured
from pytest_meshready.observability.prometheus import Sample
from pytest_meshready.results import Judgement, ObjectRef, Status
from tests.unit import builders as make

SNAPSHOT = make.snapshot(deployments=(make.deployment("orders"),))
ISTIOD = ObjectRef(kind="Deployment", namespace=make.ISTIO, name="istiod")
FRONTEND = "spiffe://cluster.local/ns/payments/sa/frontend"


def calls(value: float, workload: str = "orders", *, principal: str = "", source: str = "unknown", namespace: str = "unknown") -> Sample:
    labels = {
        "destination_workload": workload,
        "source_workload": source,
        "source_workload_namespace": namespace,
        "source_principal": principal,
    }
    return Sample(labels=labels, value=value)


def codes(judgement: Judgement) -> list[tuple[str, str, str]]:
    return [(item.code, item.level.value, str(item.object)) for item in judgement.findings]


# --- plaintext callers ------------------------------------------------------------------------------------------------


def test_queries_leave_our_own_pods_out() -> None:
    """Pods of this project have accounts and names that begin with meshready-, and the destination's word is asked for."""
    queries = measured.mtls_queries("payments", "7d")
    assert queries.plain[0] == (
        "sum by (destination_workload, source_workload, source_workload_namespace, source_principal) "
        '(increase(istio_requests_total{reporter="destination",destination_workload_namespace="payments",'
        'destination_workload!~"meshready-.*",source_principal!~".*/sa/meshready-.*",connection_security_policy!="mutual_tls"}[7d]))'
    )
    assert "istio_tcp_connections_opened_total" in queries.plain[1]
    assert all('connection_security_policy="mutual_tls"' in query for query in queries.mutual)


def test_all_callers_with_certificates() -> None:
    """Only calls that name a principal are a proof, and they are listed."""
    judgement = measured.callers(SNAPSHOT, [], [calls(100, principal=FRONTEND), calls(50, principal=FRONTEND)])
    assert (judgement.status, judgement.summary) == (Status.PASSED, "all of about 150 calls in 7d came with a client's certificate")
    assert judgement.evidence[0].data == [{"workload": "orders", "caller": FRONTEND, "calls": "150"}]


@pytest.mark.parametrize("principal", ["", "-", "unknown"])
def test_refused_handshakes_prove_nothing(principal: str) -> None:
    """A refused handshake is counted as mutual_tls too, but names nobody."""
    assert measured.callers(SNAPSHOT, [], [calls(100, principal=principal)]).status is Status.NOT_VERIFIED


def test_no_data_is_not_verified() -> None:
    """Nothing counted, and NaN, say nothing."""
    assert measured.callers(SNAPSHOT, [], []).status is Status.NOT_VERIFIED
    assert measured.callers(SNAPSHOT, [calls(math.nan)], [calls(math.nan, principal=FRONTEND)]).status is Status.NOT_VERIFIED


def test_plaintext_client() -> None:
    """A caller without a certificate is found by the workload that took its calls; the proxies do not know its name."""
    judgement = measured.callers(SNAPSHOT, [calls(900)], [calls(100, principal=FRONTEND)])
    assert codes(judgement) == [("MR721-PLAINTEXT-CALLERS", "error", "payments/Deployment/orders")]
    assert judgement.findings[0].found == (
        "its proxies took about 900 plaintext calls in 7d from callers that no proxy names (probes of earlier runs may be among them): "
        "STRICT would cut them off"
    )


def test_line_of_legacy_workloads() -> None:
    """Line 7.2.2 says the same under its own code."""
    assert codes(measured.callers(SNAPSHOT, [calls(900)], [], line="MR722"))[0][0] == "MR722-PLAINTEXT-CALLERS"


@pytest.mark.parametrize(
    ("plain", "sent", "status"),
    [
        (3, 3, Status.PASSED),  # all of it was ours
        (3.4, 3, Status.PASSED),
        (8, 3, Status.WARNED),  # few: an earlier run of ours may have made them
        (13, 3, Status.WARNED),
        (14, 3, Status.FAILED),
        (2, 3, Status.PASSED),
    ],
)
def test_our_own_plaintext_is_subtracted(plain: float, sent: int, status: Status) -> None:
    """What this run sent without a proxy does not count."""
    judgement = measured.callers(SNAPSHOT, [calls(plain)], [calls(100, principal=FRONTEND)], sent={"orders": sent})
    assert judgement.status is status


def test_listed_callers_warn() -> None:
    """Plaintext of a caller that the team listed warns; of another one beside it, it fails."""
    listed = calls(500, source="batch", namespace="legacy")
    allowed = frozenset({"legacy/batch"})
    proved = [calls(100, principal=FRONTEND)]
    assert measured.callers(SNAPSHOT, [listed], proved, allowed=allowed).status is Status.WARNED
    both = measured.callers(SNAPSHOT, [listed, calls(500, source="cron", namespace="legacy")], proved, allowed=allowed)
    assert both.status is Status.FAILED
    assert "from legacy/cron" in both.findings[0].found


def test_workload_that_is_not_in_the_snapshot() -> None:
    """A workload that is gone by now is named as the proxies called it."""
    assert codes(measured.callers(SNAPSHOT, [calls(900, workload="gone")], []))[0][2] == "payments/Workload/gone"


# --- failed calls -----------------------------------------------------------------------------------------------------


def of(service: str, value: float, flags: str = "") -> Sample:
    return Sample(labels={"destination_service_name": service, **({"response_flags": flags} if flags else {})}, value=value)


@pytest.mark.parametrize(
    ("all_calls", "failed", "status"),
    [
        (10_000, 0, Status.PASSED),
        (10_000, 10, Status.PASSED),  # 0.1 %
        (10_000, 11, Status.WARNED),
        (10_000, 100, Status.WARNED),  # 1 %
        (10_000, 101, Status.FAILED),
        (91, 1, Status.PASSED),  # what one restart costs
        (100, 4, Status.WARNED),
        (91, 5, Status.FAILED),
        (19, 0, Status.NOT_VERIFIED),
        (0, 0, Status.NOT_VERIFIED),
        (19, 19, Status.FAILED),
    ],
)
def test_share_of_failed_calls(all_calls: float, failed: float, status: Status) -> None:
    """Up to 0.1 % pass, up to 1 % warn, more fails; a handful of calls says nothing good."""
    judgement = measured.failures("payments", [of("orders", all_calls)], [of("orders", failed, "UF,URX")])
    assert judgement.status is status


def test_failure_names_the_service() -> None:
    """The Service and the response flag that most calls ended with."""
    judgement = measured.failures("payments", [of("orders", 100), of("ledger", 100)], [of("orders", 30, "UF"), of("orders", 5, "UT")])
    assert codes(judgement) == [("MR712-FAILED-CALLS", "error", "payments/Service/orders")]
    assert judgement.findings[0].found == "about 35 of 100 calls in 15m failed between proxies (35.0%, most with response flag UF)"


def test_no_data_of_calls() -> None:
    """NaN and nothing are no share of failures."""
    assert measured.failures("payments", [of("orders", math.nan)], []).status is Status.NOT_VERIFIED
    assert measured.failures("payments", [], []).reason == (
        "no call of a Service of payments was counted in 15m, too few to tell how many fail"
    )


def test_rejected_configuration_is_only_shown() -> None:
    """It is counted for the whole mesh, so it says nothing about this namespace."""
    judgement = measured.failures("payments", [of("orders", 100)], [], [Sample(value=3.0)])
    assert (judgement.status, codes(judgement)[0][1]) == (Status.PASSED, "info")


# --- convergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "status"),
    [
        ([Sample(value=0.2)], Status.PASSED),
        ([Sample(value=5.1)], Status.WARNED),
        ([Sample(value=15.1)], Status.FAILED),
        ([Sample(value=math.nan)], Status.NOT_VERIFIED),
        ([], Status.NOT_VERIFIED),
    ],
)
def test_convergence(samples: list[Sample], status: Status) -> None:
    """Up to 5 s pass, up to 15 s warn; a quantile of nothing is NaN and not verified."""
    assert measured.convergence(samples, ISTIOD).status is status


# --- who calls whom ---------------------------------------------------------------------------------------------------


def test_calls_for_each_request() -> None:
    """How many calls a workload makes for each request, by its own counters."""
    answered = [
        Sample(labels={"destination_workload": "orders"}, value=200.0),
        Sample(labels={"destination_workload": "ledger"}, value=100.0),
    ]
    called = [Sample(labels={"source_workload": "orders", "destination_service_name": "ledger"}, value=190.0)]
    found = measured.calls_of(answered, called)
    assert found.ratio("orders") == pytest.approx(0.95)
    assert found.ratio("ledger") == 0.0
    assert found.ratio("nobody") is None
    assert found.called == {"orders": {"ledger": 190.0}}
