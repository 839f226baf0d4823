"""The manifests of what a run puts into a namespace: a guest's manners, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_meshready.cluster import objects
from pytest_meshready.probes import agent as agent_module
from pytest_meshready.probes import messages, pod
from pytest_meshready.probes.messages import Ask, Op
from pytest_meshready.probes.pod import Injection, Run

RUN = Run(id="3f2a91c0", namespace="payments", anchor_uid="b1f0c9de-0000-4000-8000-000000000001", lifetime=600)
ASKS = [messages.encode(Ask(id=str(number), op=Op.HTTP, host="ledger.payments", port=8080)) for number in range(2)]

Spec = dict[str, Any]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a Service or a policy with this selector means a pod with these labels."""
    return selector.items() <= labels.items()


def pods() -> list[tuple[str, Spec, Spec]]:
    """Every kind of pod that a run makes: its name here, its metadata, its specification."""
    found = []
    for injection in Injection:
        probe = pod.probe(RUN, "inside", injection=injection)
        found.append((f"probe {injection}", probe["metadata"], probe["spec"]))
        job = pod.job(RUN, "inside", 1, ASKS, injection=injection)["spec"]["template"]
        found.append((f"job {injection}", job["metadata"], job["spec"]))
    return found


every_pod = pytest.mark.parametrize(("metadata", "spec"), [pytest.param(metadata, spec, id=name) for name, metadata, spec in pods()])


@every_pod
def test_pod_security_restricted(metadata: Spec, spec: Spec) -> None:
    """Every rule of the level ``restricted`` of the Pod Security Standards (Kubernetes 1.34)."""
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers", "ephemeralContainers"} & spec.keys()
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [set(volume) - {"name"} for volume in spec["volumes"]] == [{"configMap"}]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPort" not in port for port in container["ports"])


@every_pod
def test_manners_of_a_guest(metadata: Spec, spec: Spec) -> None:
    """It takes little, has no token, ends by itself and at once, and does not keep a node."""
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 600
    assert spec["terminationGracePeriodSeconds"] == 1
    assert spec["restartPolicy"] == "Never"
    assert spec["enableServiceLinks"] is False
    (container,) = spec["containers"]
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    assert metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"


@every_pod
def test_traffic_is_not_taken_for_the_proxys(metadata: Spec, spec: Spec) -> None:
    """The uid 1337 would bypass the proxy (IST0144)."""
    assert spec["securityContext"]["runAsUser"] != 1337


@every_pod
def test_resources_of_the_proxy_are_those_of_the_mesh(metadata: Spec, spec: Spec) -> None:
    """One annotation for the proxy's resources would discard all of its defaults (checks.md 2.6)."""
    assert not [name for name in metadata["annotations"] if name.startswith("sidecar.istio.io/proxy")]


@every_pod
@pytest.mark.parametrize(
    "selector", [{"app": "ledger"}, {"app.kubernetes.io/name": "ledger"}, {"app.kubernetes.io/part-of": "shop"}, {"version": "v1"}]
)
def test_no_service_of_the_team_selects_it(metadata: Spec, spec: Spec, selector: dict[str, str]) -> None:
    """Nobody's traffic may reach a guest."""
    assert not selects(selector, metadata["labels"])


@every_pod
def test_it_says_whose_it_is(metadata: Spec, spec: Spec) -> None:
    """Name, run and role."""
    labels = metadata["labels"]
    assert labels["app.kubernetes.io/name"] == "meshready-probe"
    assert labels["app.kubernetes.io/managed-by"] == "pytest-meshready"
    assert (labels["meshready.io/run"], labels["meshready.io/role"]) == ("3f2a91c0", "inside")


@every_pod
def test_it_tells_its_targets_who_asks(metadata: Spec, spec: Spec) -> None:
    """The User-Agent names us and the run."""
    environment = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert environment["MESHREADY_USER_AGENT"].startswith("pytest-meshready/")
    assert environment["MESHREADY_USER_AGENT"].endswith(" (acceptance test; run 3f2a91c0)")
    assert environment["MESHREADY_LIFETIME"] == "600"


@pytest.mark.parametrize(
    ("injection", "labels"),
    [
        (Injection.YES, {"sidecar.istio.io/inject": "true"}),
        (Injection.NO, {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}),
        (Injection.AS_NAMESPACE, {}),
    ],
)
def test_injection(injection: Injection, labels: dict[str, str]) -> None:
    """In, out, or as the team's own pods are."""
    found = pod.probe(RUN, "a", injection=injection)["metadata"]["labels"]
    assert {name: value for name, value in found.items() if "istio.io" in name} == labels


def test_revision_and_statistics() -> None:
    """A pod without a proxy has no revision."""
    inside = pod.probe(RUN, "a", injection=Injection.YES, revision="canary", stats=("cluster.outbound|8080", "listener"))["metadata"]
    assert inside["labels"]["istio.io/rev"] == "canary"
    assert inside["annotations"]["sidecar.istio.io/statsInclusionPrefixes"] == "cluster.outbound|8080,listener"
    assert "istio.io/rev" not in pod.probe(RUN, "a", injection=Injection.NO, revision="canary")["metadata"]["labels"]


def test_everything_belongs_to_the_anchor() -> None:
    """But for the anchor itself; nothing is blocked by it and it controls nothing, which would need more rights."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "meshready-3f2a91c0", "uid": RUN.anchor_uid}
    owned = [
        pod.agent(RUN),
        pod.service_account(RUN),
        pod.probe(RUN, "inside", injection=Injection.YES),
        pod.job(RUN, "inside", 1, ASKS, injection=Injection.YES),
        pod.authorization_policy(RUN),
        pod.service(RUN, "inside"),
    ]
    for manifest in owned:
        assert manifest["metadata"]["ownerReferences"] == [owner], manifest["kind"]
        assert manifest["metadata"]["namespace"] == "payments"
        assert manifest["metadata"]["name"].startswith("meshready-3f2a91c0")
        assert manifest["metadata"]["labels"]["meshready.io/run"] == "3f2a91c0"
    anchor = pod.anchor(RUN)
    assert anchor["metadata"]["name"] == owner["name"]
    assert "ownerReferences" not in anchor["metadata"]
    assert "ownerReferences" not in pod.agent(Run(id="3f2a91c0", namespace="payments"))["metadata"]


def test_agent_is_delivered_as_it_is() -> None:
    """The ConfigMap holds the file, and the pod starts it from there."""
    (name,) = pod.agent(RUN)["data"]
    assert pod.agent(RUN)["immutable"] is True
    assert pod.agent(RUN)["data"][name] == Path(agent_module.__file__).read_text(encoding="utf-8")
    spec = pod.probe(RUN, "inside", injection=Injection.YES)["spec"]
    (container,) = spec["containers"]
    assert spec["volumes"][0]["configMap"]["name"] == pod.agent(RUN)["metadata"]["name"]
    assert container["command"][-2:] == [f"{container['volumeMounts'][0]['mountPath']}/{name}", "host"]
    assert pod.TALK[:-1] == tuple(container["command"][:-1])


def test_identity_is_the_runs_own_unless_one_is_lent() -> None:
    """A policy that allows the namespace's default account does not apply to a probe by accident."""
    own = pod.probe(RUN, "inside", injection=Injection.YES)["spec"]["serviceAccountName"]
    assert own == pod.service_account(RUN)["metadata"]["name"] == "meshready-3f2a91c0"
    assert pod.service_account(RUN)["automountServiceAccountToken"] is False
    assert pod.probe(RUN, "orders", injection=Injection.YES, account="orders")["spec"]["serviceAccountName"] == "orders"


def test_policy_selects_our_pods_only() -> None:
    """It allows the echo port of this run's pods, and adds nothing to any other pod's policies."""
    spec = pod.authorization_policy(RUN)["spec"]
    selector = spec["selector"]["matchLabels"]
    assert selects(selector, pod.probe(RUN, "inside", injection=Injection.YES)["metadata"]["labels"])
    assert not selects(selector, pod.probe(Run(id="other", namespace="payments"), "inside", injection=Injection.YES)["metadata"]["labels"])
    assert not selects(selector, {"app": "ledger"})
    assert (spec["action"], spec["rules"]) == ("ALLOW", [{"to": [{"operation": {"ports": ["8080"]}}]}])


def test_service_selects_one_role() -> None:
    """A Service for our own pods of one role; its port is named for Istio."""
    spec = pod.service(RUN, "inside")["spec"]
    assert selects(spec["selector"], pod.probe(RUN, "inside", injection=Injection.YES)["metadata"]["labels"])
    assert not selects(spec["selector"], pod.probe(RUN, "outside", injection=Injection.NO)["metadata"]["labels"])
    assert [(port["name"], port["port"]) for port in spec["ports"]] == [("http-echo", pod.ECHO_PORT)]
    assert pod.ECHO_PORT == agent_module.ECHO_PORT


def test_pod_of_one_node_is_scheduled_there() -> None:
    """By affinity, not by nodeName, which would leave the scheduler and the moment of scheduling out."""
    spec = pod.probe(RUN, "start-1", injection=Injection.AS_NAMESPACE, node="node-1")["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}
    assert "nodeName" not in spec
    assert "affinity" not in pod.probe(RUN, "inside", injection=Injection.AS_NAMESPACE)["spec"]


def test_job_brings_its_asks() -> None:
    """It runs once, ends by itself, is deleted when it is over, and the asks survive Kubernetes' own substitutions."""
    odd = messages.encode(Ask(id="odd", op=Op.HTTP, host="ledger", path="/$(HOSTNAME)$$"))
    job = pod.job(RUN, "inside", 7, [*ASKS, odd], injection=Injection.YES)
    spec = job["spec"]
    assert job["metadata"]["name"] == "meshready-3f2a91c0-inside-7"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 600, 120)
    container = spec["template"]["spec"]["containers"][0]
    assert container["command"][-1] == "batch"
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert "$" not in environment["MESHREADY_ASKS_0"]
    lines = [json.loads(line) for line in environment["MESHREADY_ASKS_0"].splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "odd"]
    assert lines[-1]["path"] == "/$(HOSTNAME)$$"
    assert environment["MESHREADY_WAIT_FOR_PROXY"] == "30"
    outside = pod.job(RUN, "outside", 1, ASKS, injection=Injection.NO)["spec"]["template"]["spec"]["containers"][0]
    assert "MESHREADY_WAIT_FOR_PROXY" not in {entry["name"] for entry in outside["env"]}


def test_many_asks_are_cut_into_pieces() -> None:
    """Linux takes no environment variable of more than 128 KiB."""
    asks = [messages.encode(Ask(id=str(number), op=Op.HTTP, host="ledger.payments", port=8080)) for number in range(3000)]
    environment = pod.job(RUN, "inside", 1, asks, injection=Injection.NO)["spec"]["template"]["spec"]["containers"][0]["env"]
    pieces = [entry["value"] for entry in environment if entry["name"].startswith("MESHREADY_ASKS_")]
    assert len(pieces) > 1
    assert all(len(piece) < 128 * 1024 for piece in pieces)
    assert "".join(pieces) == b"".join(asks).decode()


def test_image_and_registry() -> None:
    """The image is the user's choice, and so are the secrets of its registry."""
    run = Run(id="a", namespace="payments", image="registry.example/python:3", pull_secrets=("registry",))
    spec = pod.probe(run, "inside", injection=Injection.NO)["spec"]
    assert spec["containers"][0]["image"] == "registry.example/python:3"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert pod.service_account(run)["imagePullSecrets"] == [{"name": "registry"}]
    assert pod.probe(RUN, "inside", injection=Injection.NO)["spec"]["containers"][0]["image"] == "python:3-alpine"


def test_openshift_gives_the_uid() -> None:
    """There a uid of our own choice is refused."""
    security = pod.probe(Run(id="a", namespace="payments", user=None), "inside", injection=Injection.NO)["spec"]["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_rules_can_read_it() -> None:
    """The same structs that read the team's pods read ours."""
    import msgspec

    read = msgspec.convert(pod.probe(RUN, "inside", injection=Injection.YES), objects.Pod)
    assert read.metadata.name == "meshready-3f2a91c0-inside"
