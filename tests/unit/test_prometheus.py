"""The reader of Prometheus, against servers on loopback that answer as Prometheus and the API server do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import client
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.observability import prometheus
from pytest_meshready.observability.http import Address, ServiceProxy, UnavailableError, candidates
from pytest_meshready.observability.prometheus import Sample, number, total
from pytest_meshready.waiting import Deadlines, skipping
from tests.unit import apiserver
from tests.unit import builders as make
from tests.unit.apiserver import Api

PROXY = "/api/v1/namespaces/istio-system/services/prometheus:9090/proxy"
#: Bodies as Prometheus documents them (HTTP API, instant queries).
VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [
            {"metric": {"reporter": "destination", "destination_workload": "orders"}, "value": [1795597463.884, "2"]},
            {"metric": {"reporter": "source"}, "value": [1795597463.884, "NaN"]},
            {"metric": {}, "value": [1795597463.884, "+Inf"]},
        ],
    },
}


@pytest.fixture
def api() -> Iterator[Api]:
    with apiserver.serving() as running:
        yield running


@pytest.fixture
def cluster(api: Api, tmp_path: Path) -> Cluster:
    return client.connect(api.kubeconfig(tmp_path), None, Deadlines(request=2.0))


def answering(api: Api, answers: Mapping[str, Any], prefix: str = PROXY) -> None:
    """Answer queries by their text; others are refused as Prometheus does."""

    def reply(request: apiserver.Request) -> apiserver.Reply | None:
        if request.path == f"{prefix}/api/v1/query" and request.query["query"] in answers:
            return 200, {"Content-Type": "application/json"}, json.dumps(answers[request.query["query"]]).encode()
        return None

    api.trouble = reply


def empty() -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": []}}


def services(*names: str, namespace: str = make.ISTIO, ports: tuple[tuple[str, int], ...] = (("http", 9090),)) -> tuple[Any, ...]:
    return tuple(make.service(name, namespace=namespace, ports=ports) for name in names)


# --- queries ----------------------------------------------------------------------------------------------------------


def test_instant_vector(api: Api, cluster: Cluster) -> None:
    """Labels and values of each element, NaN and infinity as they are."""
    answering(api, {"up": VECTOR})
    found = prometheus.Prometheus(ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)).query("up")
    assert found[0] == Sample(labels={"reporter": "destination", "destination_workload": "orders"}, value=2.0)
    assert math.isnan(found[1].value)
    assert math.isinf(found[2].value)


def test_scalar(api: Api, cluster: Cluster) -> None:
    """A scalar becomes one sample without labels."""
    answering(api, {"1": {"status": "success", "data": {"resultType": "scalar", "result": [1795597463.884, "1"]}}})
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    assert prometheus.Prometheus(source).query("1") == (Sample(labels={}, value=1.0),)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "errorType": "bad_data", "error": "parse error: unclosed left parenthesis"},
        {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "1"]]}]}},
        {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "many"]}]}},
        {"status": "success"},
        ["surprise"],
    ],
)
def test_answers_that_are_no_vector(api: Api, cluster: Cluster, body: Any) -> None:
    """An error, another type of result and another shape say that there is no data, and name the query."""
    answering(api, {"sum(": body})
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    with pytest.raises(UnavailableError, match="Service istio-system/prometheus:9090"):
        prometheus.Prometheus(source).query("sum(")


def test_refused_query(api: Api, cluster: Cluster) -> None:
    """A query that Prometheus cannot parse (400) is said to be refused."""
    api.trouble = lambda _: (400, {"Content-Type": "application/json"}, b'{"status": "error"}')
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    with pytest.raises(UnavailableError, match=r"refuses the query \(HTTP status 400\): sum\("):
        prometheus.Prometheus(source).query("sum(")


def test_no_right(api: Api, cluster: Cluster) -> None:
    """The API server's own refusal names the missing right, so that the report can."""
    message = 'services "prometheus:9090" is forbidden: User "ci" cannot get resource "services/proxy" in API group ""'
    api.trouble = lambda _: apiserver.status(403, message)
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    with pytest.raises(UnavailableError) as caught:
        prometheus.Prometheus(source).query("up")
    unknown = caught.value.unknown
    assert (unknown.verb, unknown.resource, unknown.namespace) == ("get", "services/proxy", make.ISTIO)


def test_backend_that_demands_credentials(api: Api, cluster: Cluster) -> None:
    """A 401 of the backend is not taken for one of the API server; the proxy passes no credentials on."""
    api.trouble = lambda _: (401, {"Content-Type": "text/plain"}, b"Unauthorized")
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    with pytest.raises(UnavailableError, match="demands credentials"):
        prometheus.Prometheus(source).query("up")


def test_backend_that_is_down(api: Api, cluster: Cluster) -> None:
    """A Service without endpoints (503 of the API server) is unavailable, with the server's words."""
    api.trouble = lambda _: apiserver.status(503, 'no endpoints available for service "prometheus:9090"')
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    with skipping(), pytest.raises(UnavailableError, match="no endpoints available"):
        prometheus.Prometheus(source).query("up")


@pytest.mark.parametrize(
    ("yaml", "seconds"),
    [
        ("global:\n  scrape_interval: 15s\n  evaluation_interval: 1m\nscrape_configs: []\n", 15.0),
        ("global:\n  evaluation_interval: 1m\n  scrape_interval: 1m30s\n", 90.0),
        ("scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n", None),
        ("", None),
    ],
)
def test_scrape_interval(api: Api, cluster: Cluster, yaml: str, seconds: float | None) -> None:
    """The global interval, in seconds; that of a job is another matter."""
    api.objects[f"{PROXY}/api/v1/status/config"] = {"status": "success", "data": {"yaml": yaml}}
    source = ServiceProxy(cluster=cluster, namespace=make.ISTIO, service="prometheus", port=9090)
    assert prometheus.Prometheus(source).scrape_interval() == seconds


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "one", "sum_"),
    [
        ((), None, None),
        ((math.nan,), None, None),
        ((2.0,), 2.0, 2.0),
        ((1.0, 2.0), None, 3.0),
        ((math.nan, 2.0), None, 2.0),
        ((0.0,), 0.0, 0.0),
    ],
)
def test_no_data_is_no_number(values: tuple[float, ...], one: float | None, sum_: float | None) -> None:
    """No sample and 0/0 are never a number, and zero is one."""
    samples = [Sample(value=value) for value in values]
    assert (number(samples), total(samples)) == (one, sum_)


# --- where it is ------------------------------------------------------------------------------------------------------


def test_found_in_the_control_planes_namespace(api: Api, cluster: Cluster) -> None:
    """Of several Services the one in the control plane's namespace with the likeliest name is asked."""
    answering(api, {"vector(1)": empty()})
    snapshot = make.snapshot(services=(*services("prometheus", namespace=make.NAMESPACE), *services("prometheus-operated", "prometheus")))
    assert prometheus.connect(cluster, snapshot).name == "Service istio-system/prometheus:9090"


def test_found_by_its_label(api: Api, cluster: Cluster) -> None:
    """A Service of another name is known by app.kubernetes.io/name."""
    labelled = make.service("metrics", namespace=make.ISTIO, labels={"app.kubernetes.io/name": "prometheus"}, ports=(("https-web", 9090),))
    (found,) = candidates(cluster, (labelled,), prometheus.WANTED, (make.ISTIO,))
    assert (found.service, found.scheme) == ("metrics", "https")


def test_next_one_where_the_first_is_dead(api: Api, cluster: Cluster) -> None:
    """A Service that does not answer as Prometheus is passed over for the next."""
    answering(api, {"vector(1)": empty()}, prefix="/api/v1/namespaces/istio-system/services/prometheus-operated:9090/proxy")
    snapshot = make.snapshot(services=services("prometheus", "prometheus-operated"))
    assert prometheus.connect(cluster, snapshot).name == "Service istio-system/prometheus-operated:9090"


def test_none_found(cluster: Cluster) -> None:
    """Without any candidate the sentence says what was looked for."""
    with pytest.raises(UnavailableError, match="no Prometheus was found: no Service named prometheus"):
        prometheus.connect(cluster, make.snapshot(services=services("grafana")))


def test_address_of_the_team(api: Api, cluster: Cluster) -> None:
    """An address from the settings is asked with its headers, which no name and no text ever shows."""
    answering(api, {"vector(1)": empty()}, prefix="/metrics")
    found = prometheus.connect(cluster, make.snapshot(), url=f"{api.server}/metrics/", headers={"Authorization": "Bearer s3cret"})
    assert found.name == f"{api.server}/metrics"
    assert api.requests[-1].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(Address(url=api.server, headers={"Authorization": "Bearer s3cret"}))


@pytest.mark.parametrize(("status", "sentence"), [(401, "does not accept the credentials"), (502, "answered GET /api/v1/query with 502")])
def test_address_that_refuses(api: Api, cluster: Cluster, status: int, sentence: str) -> None:
    """What an address answers instead of data is one sentence."""
    api.trouble = lambda _: (status, {}, b"")
    with pytest.raises(UnavailableError, match=sentence):
        prometheus.connect(cluster, make.snapshot(), url=api.server)


def test_address_that_is_not_there(cluster: Cluster) -> None:
    """A closed port is one sentence that shows no password."""
    with pytest.raises(UnavailableError, match="gave no answer") as caught:
        prometheus.connect(cluster, make.snapshot(), url="http://user:s3cret@127.0.0.1:1")
    assert "s3cret" not in str(caught.value)
