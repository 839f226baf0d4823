"""Snapshots of manifests: what they hold, what they cannot know, where it stands, and that nothing secret is in any snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pytest_meshready.cluster import decode, manifests, objects
from pytest_meshready.cluster import snapshot as snapshots
from pytest_meshready.cluster.manifests import ManifestError
from pytest_meshready.cluster.resources import RESOURCES
from pytest_meshready.cluster.snapshot import ControlPlane, Place, Snapshot, located
from pytest_meshready.istio.namespaces import unread_in
from pytest_meshready.results import Finding, Judgement, Level, ObjectRef, Status
from tests.unit.apiserver import TAKEN, Api, Reply, Request, serving, status
from tests.unit.test_live import stock
from tests.unit.test_live import take as take_live
from tests.unit.test_properties import rule_of, rules, static_rules

DATA = Path(__file__).parents[1] / "data" / "manifests"
CANARY = "s3cret-canary"
ENCODED = "czNjcmV0LWNhbmFyeQ"

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: orders}\nspec: {ports: [{name: http, port: 80}]}\n"
PODLESS = "manifests only: no pods yet"


def take(source: str = ".", *, base: Path = DATA, stdin: str = "", **options: Any) -> Snapshot:
    """The snapshot of some manifests for the namespace payments."""
    return manifests.take(source, namespace=options.pop("namespace", "payments"), base=base, stdin=lambda: stdin, **options)


def piped(*documents: str, **options: Any) -> Snapshot:
    """The snapshot of documents on standard input."""
    return take("-", stdin="\n---\n".join(documents), **options)


def refused(source: str, base: Path, **options: Any) -> str:
    """The sentence with which manifests are refused."""
    with pytest.raises(ManifestError) as error:
        take(source, base=base, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_objects_become_what_a_cluster_would_give() -> None:
    """Documents and items of Lists, of any version of their group, with and without a namespace, become the structs of live ones."""
    found = take("shop.yaml")
    assert (found.source, found.namespace, found.unreadable, found.context) == ("manifests", "payments", (), "")
    assert [item.metadata.name for item in found.deployments] == ["ledger", "orders"]
    assert {place.namespace for place in found.places if place.kind != "Namespace"} == {"payments"}
    assert {item.metadata.namespace for item in found.services} == {"payments"}
    assert found.deployments[0].spec.template.spec.host_network
    assert [item.spec.mtls.mode for item in found.peerauthentications if item.spec.mtls] == ["STRICT"]  # v1beta1
    assert [item.spec.host for item in found.destinationrules] == ["orders.payments.svc.cluster.local"]  # v1alpha3
    this = found.this_namespace()
    assert this is not None
    assert this.metadata.labels == {"istio-injection": "enabled", "istio.io/rev": "canary"}
    assert this.metadata.namespace == ""


def test_a_folder_is_looked_through(tmp_path: Path) -> None:
    """YAML and JSON below a folder are read; hidden folders and what is no Kubernetes object are not."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".github").mkdir()
    (tmp_path / "deep" / "er" / "a.yml").write_text(SERVICE)
    (tmp_path / "deep" / "b.json").write_text('{\n\t"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger"}\n}')
    (tmp_path / "values.yaml").write_text("replicas: {{ .Values.x }}\nimage: x: y\n")
    (tmp_path / "package.json").write_text('{"name": "shop", "kind": "app"}')
    (tmp_path / ".github" / "ci.yaml").write_text(SERVICE.replace("orders", "hidden"))
    (tmp_path / "notes.txt").write_text("[")
    found = take(".", base=tmp_path)
    assert [item.metadata.name for item in found.services] == ["ledger", "orders"]
    assert [place.file for place in found.places] == ["deep/b.json", "deep/er/a.yml"]


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    """Dates and sexagesimal numbers are text, a null is not set, a merge key merges, comments and empty documents do not matter."""
    labels = "metadata: {name: orders, labels: {day: 2026-01-01, time: 12:30:45, version: =, exp: '1e3'}}"
    found = piped("# nothing", f"apiVersion: v1\nkind: Service\n{labels}\nspec: {{type: null, ports: [{{<<: {{port: 80}}, name: http}}]}}")
    (service,) = found.services
    assert service.metadata.labels == {"day": "2026-01-01", "time": "12:30:45", "version": "=", "exp": "1e3"}
    assert service.spec == objects.ServiceSpec(ports=(objects.ServicePort(name="http", port=80),))


def test_an_autoscaler_of_v1_is_converted() -> None:
    """The one metric of autoscaling/v1 is CPU, at 80 % unless it says otherwise."""
    spec = "spec: {scaleTargetRef: {kind: Deployment, name: orders}, minReplicas: 2, maxReplicas: 4}"
    text = f"apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {{name: orders}}\n{spec}"
    (found,) = piped(text).horizontalpodautoscalers
    target = {"type": "Utilization", "averageUtilization": 80}
    assert list(found.spec.metrics) == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def test_what_only_a_server_writes_is_left_out() -> None:
    """An exported object brings a status and times along; nothing of them is true of what is going to be deployed."""
    meta = "metadata: {name: orders, uid: abc, creationTimestamp: 2026-01-01T00:00:00Z}"
    (found,) = piped(f"apiVersion: apps/v1\nkind: Deployment\n{meta}\nstatus: {{readyReplicas: 2}}").deployments
    assert (found.metadata.uid, found.metadata.creation_timestamp) == ("", None)
    assert found.status == objects.WorkloadStatus()


def test_an_object_of_another_shape_is_unreadable() -> None:
    """What the API server would refuse is named with its place, and its value is not told."""
    odd = "apiVersion: v1\nkind: Service\nmetadata: {name: odd, labels: {version: 7}}"
    found = piped(SERVICE, odd, "apiVersion: v1\nkind: Service\nspec: {}")
    assert [item.metadata.name for item in found.services] == ["orders"]
    assert [(item.key, item.namespace, item.name, item.problem) for item in found.unreadable] == [
        ("services", "payments", "odd", "Expected `str`, got `int` - at `$.metadata.labels[...]` (stdin:7)"),
        ("services", "payments", "?", "it has no name (stdin:11)"),
    ]


def test_other_namespaces_are_read_as_far_as_a_live_snapshot_reads_them() -> None:
    """The control plane's, the root namespace's and the gateways' policies are kept, those of strangers are not."""
    policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: %s}"
    route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x, namespace: strangers}"
    spaces = ("payments", "istio-system", "edge", "strangers")
    found = piped(*(policy % name for name in spaces), route, gateway_namespaces=("edge",))
    assert [item.metadata.namespace for item in found.peerauthentications] == ["edge", "istio-system", "payments"]
    assert [item.metadata.namespace for item in found.virtualservices] == ["strangers"]
    assert found.unread("peerauthentications") == ()
    assert [item.namespace for item in found.unread("destinationrules")] == ["istio-system", "edge"]


def test_a_control_plane_among_the_manifests_is_found() -> None:
    """Webhooks and Istio's ConfigMaps in the manifests tell as much as they do in a cluster."""
    hook = """apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector, labels: {istio.io/rev: default}}
webhooks: [{name: namespace.sidecar-injector.istio.io, clientConfig: {service: {namespace: mesh, name: istiod}}}]"""
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: mesh}\ndata: %s"
    mesh = config % ("istio", '{mesh: "rootNamespace: mesh-root\\ntrustDomain: example.org"}')
    injector = config % ("istio-sidecar-injector", """{config: "policy: enabled", values: '{"global":{"tag":"1.30.1"}}'}""")
    found = piped(SERVICE, hook, mesh, injector)
    assert found.control_plane == ControlPlane(namespace="mesh", revision="default", service="istiod", webhooks=("istio-sidecar-injector",))
    assert (found.root_namespace, found.trust_domain, found.istio_version) == ("mesh-root", "example.org", "1.30.1")
    assert found.unread("configmaps", "mutatingwebhookconfigurations") == ()
    assert [item.metadata.name for item in found.configmaps] == ["istio", "istio-sidecar-injector"]


def test_only_secrets_that_were_named_are_looked_at() -> None:
    """Of other Secrets not even the name is kept; a named one that is not there is unknown, not missing."""
    found = take("canaries.yaml", secrets=("payments/shop-tls", "payments/gone"))
    assert [item.metadata.name for item in found.secrets] == ["shop-tls"]
    assert [item.reason for item in found.unread("secrets")] == ["manifests only: Secret payments/gone is not in them"]
    assert take("canaries.yaml").secrets == ()
    assert "database" not in snapshots.encode(take("canaries.yaml")).decode()


# --- what is not known ------------------------------------------------------------------------------------------------


def test_what_manifests_cannot_hold_is_refused() -> None:
    """Pods, nodes and whatever else a cluster makes are unknown with a sentence, and no right is said to be missing."""
    found = piped(SERVICE, "apiVersion: v1\nkind: Pod\nmetadata: {name: orders}", "apiVersion: v1\nkind: Node\nmetadata: {name: n}")
    assert (found.pods, found.nodes) == ((), ())
    for key in ("pods", "nodes", "node_pods", "endpointslices", "leases", "namespaces", "mutatingwebhookconfigurations", "configmaps"):
        (unknown,) = found.unread(key)
        assert unknown.reason.startswith("manifests only: ")
        assert unknown.verb == ""
    assert found.unread("pods")[0].reason == PODLESS
    assert found.control_plane_problem == "manifests only: nothing of Istio's own configuration"
    assert found.this_namespace() is None


def test_an_empty_list_is_an_answer_only_where_teams_declare() -> None:
    """No Deployment in the manifests is none in the namespace; of LimitRanges, chaos and the root namespace nothing follows."""
    found = piped(SERVICE)
    own = [key for key in RESOURCES if not unread_in(found, "payments", key)]
    assert sorted(own) == sorted(manifests.DECLARED | {"secrets"} | {"configmaps"})  # configmaps are the control plane's
    assert {"limitranges", "networkchaos", "prometheusrules", "canaries"}.isdisjoint(own)
    assert unread_in(found, "istio-system", "peerauthentications")
    ranges = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: defaults}"
    assert not unread_in(piped(SERVICE, ranges), "payments", "limitranges")  # one is there, so the team does declare them


@pytest.mark.parametrize("line", sorted(static_rules()))
def test_what_needs_pods_is_never_passed(line: str) -> None:
    """Each line fails for what stands in the manifests, or says that pods are missing; only lines that need none may pass."""
    judgement = rule_of(line)(take("shop.yaml"))
    if judgement.status in (Status.PASSED, Status.WARNED):
        assert line == "8.2.3"
    if judgement.status is Status.NOT_VERIFIED:
        assert any(unknown.reason.startswith("manifests only: ") for unknown in judgement.unknown)
    assert judgement.status is not Status.NOT_APPLICABLE
    assert not any("0 of 2" in finding.found for finding in judgement.findings)


#: What the rules must say of shop.yaml, written down from its faults: line, code, object.
FAULTS = (
    ("1.1.3", "MR113-GUESSED", "payments/Service/ledger"),
    ("2.2.1", "MR221-NO-BUDGET", "payments/Deployment/orders"),
    ("2.2.1", "MR221-BLOCKS-DRAIN", "payments/Deployment/ledger"),
    ("2.2.3", "MR223-NO-READINESS", "payments/Deployment/orders"),
    ("2.2.4", "MR224-CANNOT-SCALE", "payments/HorizontalPodAutoscaler/orders"),
    ("3.2.4", "MR324-HOST-MISSING", "payments/VirtualService/ledger"),
    ("6.1.2", "MR612-MANY-ATTEMPTS", "payments/VirtualService/ledger"),
    ("6.2.3", "MR623-FAULT", "payments/VirtualService/ledger"),
    ("8.1.1", "MR811-PLAIN-HTTP", "payments/Gateway/shop"),
)


@pytest.mark.parametrize(("line", "code", "about"), FAULTS)
def test_faults_are_found_before_anything_is_deployed(line: str, code: str, about: str) -> None:
    """A fault that objects show is found in manifests, with the line on which its object begins."""
    snapshot = take("shop.yaml")
    (finding,) = [item for item in located(rule_of(line)(snapshot).findings, snapshot) if (item.code, str(item.object)) == (code, about)]
    text = (DATA / "shop.yaml").read_text().splitlines()
    assert finding.file == "shop.yaml"
    assert "apiVersion" in text[finding.line - 1]
    assert f"kind: {finding.object.kind}" in text[finding.line]


# --- places -----------------------------------------------------------------------------------------------------------


def test_places_name_documents_and_items() -> None:
    """A document begins with its first key, an item of a List with its own; lines count from 1."""
    listed = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: ledger}\n"
    assert piped(SERVICE, listed).places == (
        Place(kind="Service", namespace="payments", name="ledger", file="stdin", line=10),
        Place(kind="Service", namespace="payments", name="orders", file="stdin", line=1),
    )


def finding(kind: str, name: str = "shop", **fields: Any) -> Finding:
    ref = ObjectRef(kind=kind, namespace="payments", name=name)
    return Finding(code="MR1-X", level=Level.ERROR, object=ref, found="x", wanted="x", fix="x", **fields)


def test_findings_get_the_place_of_their_object() -> None:
    """What is not in the manifests keeps no place, nor does what may be either of two Gateways; one that has a place keeps it."""
    gateway = "apiVersion: %s\nkind: Gateway\nmetadata: {name: shop}"
    found = piped(SERVICE, gateway % "networking.istio.io/v1", gateway % "gateway.networking.k8s.io/v1")
    given = (finding("Service", "orders"), finding("Gateway"), finding("Deployment"), finding("Service", "orders", file="x", line=9))
    assert [(item.file, item.line) for item in located(given, found)] == [("stdin", 1), ("", 0), ("", 0), ("x", 9)]
    assert located(given, msgspec.structs.replace(found, places=())) == given


# --- what cannot be used ----------------------------------------------------------------------------------------------


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """No such folder, a folder without YAML, YAML without objects, and objects of other namespaces are each one sentence."""
    assert refused("nowhere", tmp_path) == "there is no such file or folder: nowhere"
    (tmp_path / "empty").mkdir()
    assert refused("empty", tmp_path) == "there is no file *.yaml, *.yml or *.json in empty"
    (tmp_path / "values.yaml").write_text("replicas: 2\n")
    assert refused("values.yaml", tmp_path) == "there is no Kubernetes object in it that any line of the checklist reads"
    (tmp_path / "other.yaml").write_text(SERVICE.replace("orders}", "orders, namespace: shop}"))
    assert refused("other.yaml", tmp_path) == "none of its 1 objects is in namespace payments; they are in shop"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("apiVersion: v1\nkind: Service\nmetadata: name: x\n", "a.yaml:3 is not YAML: mapping values are not allowed in this context"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n", "a.yaml:4 holds a template that Helm has not rendered"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: '{{ .Release.Name }}'}\n",
            "a.yaml:1 holds a template that Helm has not rendered",
        ),
        ("{{- if .Values.on }}\napiVersion: v1\nkind: Service\n{{- end }}\n", "holds a template that Helm has not rendered"),
        ("apiVersion: v1\nkind: Service\nmetadata: &a {name: orders, x: *a}\n", "a.yaml is not YAML: it is nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    """A broken file is named with its line; templates of Helm with what to type instead."""
    (tmp_path / "a.yaml").write_text(text)
    said = refused(".", tmp_path)
    assert sentence in said
    assert ("helm template CHART | pytest --mesh-manifests=-" in said) == ("{{" in text)


def test_templates_in_texts_are_no_templates_of_helm() -> None:
    """Alerts and dashboards have double braces of their own."""
    rule = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\nspec: {groups: [{name: '{{ $labels.x }}'}]}"
    assert len(piped(SERVICE, rule).prometheusrules) == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A file in another encoding is named."""
    (tmp_path / "a.yaml").write_bytes(b"apiVersion: v1\nkind: \xff\n")
    assert refused("a.yaml", tmp_path) == "a.yaml is not UTF-8 text (byte 22)"


@pytest.mark.parametrize(
    ("name", "command"), [("kustomization.yaml", "kustomize build overlays/prod"), ("Chart.yaml", "helm template overlays/prod")]
)
def test_a_folder_that_has_to_be_built(tmp_path: Path, name: str, command: str) -> None:
    """Overlays and charts mean nothing before they are built; the sentence ends with the command."""
    folder = tmp_path / "overlays" / "prod"
    folder.mkdir(parents=True)
    (folder / name).write_text("resources: [a.yaml]\n")
    (folder / "a.yaml").write_text(SERVICE)
    assert refused(".", tmp_path).endswith(f"{command} | pytest --mesh-manifests=-")
    assert len(take("overlays/prod/a.yaml", base=tmp_path).services) == 1


def test_one_object_in_two_places(tmp_path: Path) -> None:
    """Which one is applied last is not known, so both places are named; a version of the group makes no difference."""
    (tmp_path / "a.yaml").write_text(SERVICE)
    (tmp_path / "b.yaml").write_text(f"# copied\n{SERVICE}")
    assert "payments/Service/orders is in a.yaml:1 and again in b.yaml:2" in refused(".", tmp_path)


# --- three sources, one answer ----------------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as server:
        stock(server)
        yield server


def deploy(api: Api, text: str) -> None:
    """Put the objects of some YAML where the API server would list them, read by another YAML reader than ours."""
    documents = [document for document in yaml.safe_load_all(text) if document]
    rows = {(row.group, getattr(row.type, "kind", "")): row for row in RESOURCES.values() if row.key not in ("node_pods", "configmaps")}
    for item in [inner for document in documents for inner in document.get("items", [document])]:
        row = rows[item["apiVersion"].rpartition("/")[0], item["kind"]]
        if row.key == "namespaces":
            api.objects[f"/api/v1/namespaces/{item['metadata']['name']}"] = item
            continue
        item["metadata"].setdefault("namespace", "payments")
        if row.key == "deployments":
            wanted = item["spec"]["replicas"]
            item["status"] = {"replicas": wanted, "readyReplicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
        if row.key == "horizontalpodautoscalers":
            seen = [{"type": kind, "status": "True"} for kind in ("AbleToScale", "ScalingActive")]
            item["status"] = {"conditions": seen, "lastScaleTime": TAKEN}
        for path in (f"{row.prefix}/{row.plural}", f"{row.prefix}/namespaces/payments/{row.plural}"):
            api.lists[path] = [*api.lists.get(path, []), item]


def forbid_unknown(api: Api, known: Snapshot) -> None:
    """Answer 403 for everything that a snapshot of manifests does not know."""

    def trouble(request: Request) -> Reply | None:
        for refusal in known.refusals:
            row = RESOURCES[refusal.key]
            where = f"/namespaces/{refusal.namespace}" if refusal.namespace else ""
            ends = (f"{where}/{row.plural}",) if row.key != "namespaces" else ("/api/v1/namespaces",)
            if request.path.endswith(ends) or (row.plural == "configmaps" and "/configmaps/" in request.path):
                return status(403, f"not permitted: {request.path}")
        return None

    api.trouble = trouble


def said(judgement: Judgement) -> list[dict[str, Any]]:
    """The findings of a judgement, as the report has them."""
    found: list[dict[str, Any]] = msgspec.to_builtins(judgement.findings)
    return sorted(found, key=lambda item: json.dumps(item, sort_keys=True))


def test_three_sources_give_the_same_findings(api: Api, tmp_path: Path) -> None:
    """A cluster in which the same may be read, manifests, and a saved snapshot of them: every rule finds the same."""
    written = take("shop.yaml")
    deploy(api, (DATA / "shop.yaml").read_text())
    forbid_unknown(api, written)
    api.objects.pop("/readyz")
    running = take_live(api, tmp_path)
    (tmp_path / "saved.json").write_bytes(snapshots.encode(written))
    saved = snapshots.load(tmp_path / "saved.json")
    assert saved == written
    assert {row.key: len(getattr(running, row.key)) for row in RESOURCES.values()} == {
        row.key: len(getattr(written, row.key)) for row in RESOURCES.values()
    }
    count = 0
    for name, rule in rules().items():
        judgement = rule(written)
        assert said(judgement) == said(rule(running)), name
        assert judgement == rule(saved), name
        count += len(judgement.findings)
    assert count >= 20


# --- nothing secret, anywhere -----------------------------------------------------------------------------------------


def clean(snapshot: Snapshot) -> None:
    """Neither the snapshot, nor its file, nor a word of any rule about it holds a canary."""
    saved = snapshots.encode(snapshot).decode()
    for text in (saved, repr(snapshot)):
        assert CANARY not in text
        assert ENCODED not in text
    for name, rule in rules().items():
        judgement = rule(snapshot)
        assert CANARY not in msgspec.json.encode(msgspec.to_builtins(judgement)).decode(), name
        assert judgement == rule(snapshots.decode(saved.encode())), name


def test_no_canary_comes_through_manifests() -> None:
    """Secrets, ConfigMaps, environments, arguments, probes, annotations, headers, filters and plugins stay in the files."""
    found = take("canaries.yaml", secrets=("payments/shop-tls",))
    assert (found.unreadable, found.mesh is None, found.injector is None) == ((), False, False)
    assert all((found.deployments, found.cronjobs, found.virtualservices, found.httproutes, found.envoyfilters, found.prometheusrules))
    clean(found)


def test_no_canary_comes_out_of_a_cluster() -> None:
    """The same objects, and pods with messages like ends of logs, as lists of the API server."""
    text = (DATA / "canaries.yaml").read_text()
    documents = [document for document in yaml.safe_load_all(text) if document]
    pod_template = next(item for item in documents if item["kind"] == "Deployment")["spec"]["template"]
    ended = {"reason": "Error", "exitCode": 1, "message": CANARY}
    states = [{"name": "app", "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": CANARY}}}]
    states[0]["lastState"] = {"terminated": ended}
    conditions = [{"type": "Ready", "status": "False", "message": CANARY}, {"type": "PodScheduled", "status": "True"}]
    metadata = {**pod_template["metadata"], "name": "orders-1", "namespace": "payments", "managedFields": [{"manager": CANARY}]}
    pod = {"metadata": metadata, "spec": pod_template["spec"], "status": {"containerStatuses": states, "conditions": conditions}}
    documents += [{"apiVersion": "v1", "kind": "Pod", **pod}]
    documents += [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node", "annotations": {"x": CANARY}}}]
    fields: dict[str, Any] = {}
    for key, row in RESOURCES.items():
        items = [item for item in documents if (item["apiVersion"].rpartition("/")[0], item["kind"]) == (row.group, row.type.kind)]  # type: ignore[attr-defined]
        page = decode.page(json.dumps({"items": items}).encode(), row)
        assert page.unreadable == ()
        fields[key] = tuple(page.items)
    base = take("canaries.yaml")
    found = msgspec.structs.replace(base, source="cluster", read=tuple(RESOURCES), refusals=(), places=(), **fields)
    assert found.pods
    assert found.node_pods
    clean(found)
