"""The manifests of everything a run puts into a namespace: pure functions, objects as plain data.

All of it is a guest's (DESIGN, Decision 4): it passes Pod Security ``restricted``, has requests and limits, has no token of a
service account, is selected by no Service of the team, ends by itself, and belongs to one anchor: deleting the ConfigMap
``meshready-<run>`` deletes everything.
"""

from __future__ import annotations

import enum
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_meshready.cluster.client import version

__all__ = [
    "AGENT",
    "DEFAULT_IMAGE",
    "ECHO_PORT",
    "NAME_LABEL",
    "ROLE_LABEL",
    "RUN_LABEL",
    "TALK",
    "Injection",
    "Manifest",
    "Run",
    "agent",
    "anchor",
    "authorization_policy",
    "job",
    "probe",
    "service",
    "service_account",
]

Manifest = dict[str, Any]

#: The image of the probe pods: any with a python3 of version 3.8 or later (``--mesh-probe-image``).
DEFAULT_IMAGE = "python:3-alpine"

#: The name of the container that the agent runs in.
AGENT = "agent"

#: The port on which every probe pod answers GET with the request that arrived.
ECHO_PORT = 8080

RUN_LABEL = "meshready.io/run"
ROLE_LABEL = "meshready.io/role"
NAME_LABEL = "app.kubernetes.io/name"
PROBE_NAME = "meshready-probe"

_FOLDER = "/meshready"
_FILE = "agent.py"

# isolated (-I), without site packages (-S), without writing bytecode (-B): it starts in 60 ms and leaves nothing on the disk
_PYTHON = ("python3", "-I", "-S", "-B", "-u", f"{_FOLDER}/{_FILE}")

#: The command that opens a conversation with the agent, for exec.
TALK = (*_PYTHON, "talk")

#: Any uid but 1337, whose traffic is the proxy's own and bypasses it (Istio, IST0144).
USER = 10001

#: The most characters of asks in one environment variable: Linux admits 128 KiB (MAX_ARG_STRLEN).
_PIECE = 96 * 1024

#: Seconds that a batch waits for its proxy: without native sidecars the proxy may start after the application.
_WAIT_FOR_PROXY = 30

#: Seconds that a finished Job stays, if nobody deletes it before.
_KEEP_JOB = 120


class Injection(enum.StrEnum):
    """What a pod says about its own proxy."""

    YES = "yes"
    """``sidecar.istio.io/inject=true``: it gets one where the webhook reaches it, whatever its namespace says"""
    NO = "no"
    """no proxy and no ambient redirection"""
    AS_NAMESPACE = "as namespace"
    """nothing: it gets what the namespace's labels give to the team's own pods"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all objects of one run in one namespace have in common.

    Attributes:
        id: the run's id, a part of every name and the value of the label ``meshready.io/run``.
        namespace: where the objects are.
        anchor_uid: the ``metadata.uid`` of the anchor in this namespace, once it is made; empty: no owner is named.
        user_agent: what requests of the probes say about who sends them; empty for the usual.
        lifetime: seconds after which pods end by themselves.
        image: the image of the pods.
        pull_secrets: names of Secrets for a registry that wants to know who pulls.
        user: the uid; None on OpenShift, which gives one to every namespace and refuses others.
    """

    id: str
    namespace: str
    anchor_uid: str = ""
    user_agent: str = ""
    lifetime: int = 900
    image: str = DEFAULT_IMAGE
    pull_secrets: tuple[str, ...] = ()
    user: int | None = USER

    @property
    def name(self) -> str:
        """The name of the anchor, and the beginning of every other name."""
        return f"meshready-{self.id}"

    @property
    def sender(self) -> str:
        """What requests of the probes say about who sends them."""
        return self.user_agent or f"pytest-meshready/{version()} (acceptance test; run {self.id})"

    def labels(self, role: str = "") -> dict[str, str]:
        """The labels of an object; with a role those of a pod."""
        of_pod = {NAME_LABEL: PROBE_NAME, ROLE_LABEL: role} if role else {}
        return {"app.kubernetes.io/managed-by": "pytest-meshready", RUN_LABEL: self.id, **of_pod}


def anchor(run: Run) -> Manifest:
    """The ConfigMap that owns everything else; create it first, and give its uid to the others."""
    about = (
        "An acceptance test of pytest-meshready is running, or was interrupted. Deleting this ConfigMap deletes all its objects "
        "in this namespace."
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": run.name, "namespace": run.namespace, "labels": run.labels()},
        "data": {"about": about},
    }


def agent(run: Run) -> Manifest:
    """The ConfigMap with the agent's file."""
    source = importlib.resources.files("pytest_meshready.probes").joinpath(_FILE).read_text(encoding="utf-8")
    return {**_owned(run, "v1", "ConfigMap", f"{run.name}-agent"), "immutable": True, "data": {_FILE: source}}


def service_account(run: Run) -> Manifest:
    """An identity of the run's own, so that no policy of the team applies to it by accident."""
    manifest = {**_owned(run, "v1", "ServiceAccount", run.name), "automountServiceAccountToken": False}
    return {**manifest, "imagePullSecrets": [{"name": name} for name in run.pull_secrets]} if run.pull_secrets else manifest


def probe(
    run: Run,
    role: str,
    *,
    injection: Injection,
    account: str = "",
    revision: str = "",
    stats: Sequence[str] = (),
    node: str = "",
) -> Manifest:
    """A probe pod: it waits for a conversation with its agent, and answers GET on `ECHO_PORT` with the request.

    Args:
        run: whose it is.
        role: what it is for, a DNS label: it is in the name and in the label ``meshready.io/role``.
        injection: whether it gets a proxy.
        account: the service account; empty for the run's own.
        revision: the revision of the control plane (``istio.io/rev``), where the namespace does not name one.
        stats: beginnings of names of Envoy's statistics to keep besides the usual ones: ``cluster.outbound|8080``. Many cost
            memory in the proxy, for every cluster that it knows.
        node: the node that it must run on; empty for any.
    """
    pod = _owned(run, "v1", "Pod", f"{run.name}-{role}")
    metadata = _metadata(run, role, injection, revision, stats)
    pod["metadata"] = {**pod["metadata"], **metadata}
    spec = _spec(run, account, command="host", extra={})
    return {**pod, "spec": {**spec, "affinity": _on(node)} if node else spec}


def job(
    run: Run, role: str, number: int, asks: Sequence[bytes], *, injection: Injection, account: str = "", revision: str = ""
) -> Manifest:
    """A Job that performs asks and prints the answers: for clusters where nothing may be executed in pods.

    Args:
        run: whose it is.
        role: as for `probe`.
        number: tells the Jobs of one role apart.
        asks: the lines for the agent.
        injection: whether its pod gets a proxy.
        account: the service account; empty for the run's own.
        revision: as for `probe`.
    """
    text = b"".join(asks).decode().replace("$", "\\u0024")  # Kubernetes expands $(NAME) in the environment, JSON knows the sign
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    extra = {f"MESHREADY_ASKS_{index}": piece for index, piece in enumerate(pieces)}
    if injection is not Injection.NO:
        extra["MESHREADY_WAIT_FOR_PROXY"] = str(_WAIT_FOR_PROXY)
    job_ = _owned(run, "batch/v1", "Job", f"{run.name}-{role}-{number}")
    job_["metadata"]["labels"] = run.labels(role)
    return {
        **job_,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": run.lifetime,
            "ttlSecondsAfterFinished": _KEEP_JOB,
            "template": {
                "metadata": _metadata(run, role, injection, revision, ()),
                "spec": _spec(run, account, command="batch", extra=extra),
            },
        },
    }


def authorization_policy(run: Run) -> Manifest:
    """Allows requests to the echo port of the run's own pods, and of no others: for namespaces that deny by default."""
    return {
        **_owned(run, "security.istio.io/v1", "AuthorizationPolicy", run.name),
        "spec": {
            "selector": {"matchLabels": {NAME_LABEL: PROBE_NAME, RUN_LABEL: run.id}},
            "action": "ALLOW",
            "rules": [{"to": [{"operation": {"ports": [str(ECHO_PORT)]}}]}],
        },
    }


def service(run: Run, role: str) -> Manifest:
    """A Service for the echo port of one role: a sidecar uses mTLS towards a Service, and plaintext towards a bare pod address."""
    return {
        **_owned(run, "v1", "Service", f"{run.name}-{role}"),
        "spec": {
            "selector": {RUN_LABEL: run.id, ROLE_LABEL: role},
            "ports": [{"name": "http-echo", "port": ECHO_PORT, "targetPort": ECHO_PORT}],
        },
    }


def _owned(run: Run, version: str, kind: str, name: str) -> Manifest:
    """An object that goes when the anchor goes. The anchor is no controller and blocks nothing, which would need more rights."""
    metadata: Manifest = {"name": name, "namespace": run.namespace, "labels": run.labels()}
    if run.anchor_uid:
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": run.name, "uid": run.anchor_uid}]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _metadata(run: Run, role: str, injection: Injection, revision: str, stats: Sequence[str]) -> Manifest:
    """Labels and annotations of a pod.

    Requests and limits of the proxy are left as the mesh gives them: one annotation for any of them discards all the defaults
    (checks.md 2.6), and a probe's proxy shall be like that of the team.
    """
    labels = run.labels(role)
    # a pod that belongs to no controller, or has an emptyDir, as the injector adds, would keep its node from being removed
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    if injection is Injection.NO:
        labels |= {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
    if injection is Injection.YES:
        labels["sidecar.istio.io/inject"] = "true"
    if revision and injection is not Injection.NO:
        labels["istio.io/rev"] = revision
    if stats:
        annotations["sidecar.istio.io/statsInclusionPrefixes"] = ",".join(stats)
    return {"labels": labels, "annotations": annotations}


def _on(node: str) -> Manifest:
    """Only this node, by way of the scheduler: ``nodeName`` would pass it by, and the moment of scheduling would be missing."""
    only = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [only]}}}


def _spec(run: Run, account: str, *, command: str, extra: Mapping[str, str]) -> Manifest:
    """The pod's specification: what Pod Security ``restricted`` demands, and what a guest owes besides."""
    environment = {"MESHREADY_USER_AGENT": run.sender, "MESHREADY_LIFETIME": str(run.lifetime), **extra}
    security: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if run.user is not None:
        security |= {"runAsUser": run.user, "runAsGroup": run.user}
    container = {
        "name": AGENT,
        "image": run.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*_PYTHON, command],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": "http-echo", "containerPort": ECHO_PORT}],
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": AGENT, "mountPath": _FOLDER, "readOnly": True}],
    }
    spec: Manifest = {
        "serviceAccountName": account or run.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": run.lifetime,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": AGENT, "configMap": {"name": f"{run.name}-agent", "defaultMode": 0o444}}],
    }
    return {**spec, "imagePullSecrets": [{"name": name} for name in run.pull_secrets]} if run.pull_secrets else spec
