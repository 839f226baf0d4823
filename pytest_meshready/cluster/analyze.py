"""Runs ``istioctl analyze``, where the program is on this machine, and gives back what it printed.

It reads the cluster as the same user and changes nothing, but it reads more than a run of ours does: all Secrets of the cluster
among it. So it is run only for a user who may do that anyway, which is asked for and not tried (`missing_right`): it would meet
refusals, and wait for what it may not list. Of Secrets its messages hold names alone (pkg/config/analysis/msg/messages.yaml).
Its exit code is not trusted: with ``-o json`` it is 0 in any case (istio/istio#35054).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pytest_meshready.cluster import writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.kubeconfig import IN_CLUSTER
from pytest_meshready.cluster.permissions import Right
from pytest_meshready.cluster.snapshot import AnalysisMessage, IstioctlAnalysis, Snapshot
from pytest_meshready.waiting import Deadline

PROGRAM = "istioctl"

#: Seconds for one run at most, whatever the deadlines of the settings: a healthy run takes one.
SECONDS = 40.0

#: How much is kept of one message, and of its last words.
_LONGEST_MESSAGE = 1000
_LONGEST = 200

#: What istioctl 1.31 lists and watches in all namespaces, by API group: seen in the audit log of an API server.
_READS = {
    "": ("secrets", "configmaps", "namespaces", "nodes", "pods", "services"),
    "admissionregistration.k8s.io": ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "apps": ("deployments",),
    "extensions.istio.io": ("trafficextensions", "wasmplugins"),
    "gateway.networking.k8s.io": ("gateways", "grpcroutes", "httproutes"),
    "networking.istio.io": (
        *("destinationrules", "envoyfilters", "gateways", "proxyconfigs", "serviceentries", "sidecars", "virtualservices"),
        *("workloadentries", "workloadgroups"),
    ),
    "security.istio.io": ("authorizationpolicies", "peerauthentications", "requestauthentications"),
    "telemetry.istio.io": ("telemetries",),
}

#: A user who may do everything is asked about once.
_EVERYTHING = Right(group="*", resource="*", verb="*")

#: Since 1.25 istioctl enters the other clusters of a mesh with the credentials that lie in this one's Secrets, unless it is told
#: which contexts to enter. No run of ours goes to a cluster that nobody named.
_ONLY_HERE = "--remote-contexts"


def installed() -> str:
    """The path of istioctl; empty where it is not on the PATH."""
    return shutil.which(PROGRAM) or ""


def rights(istio_namespace: str) -> tuple[Right, ...]:
    """What ``istioctl analyze`` does, the most telling first."""
    everywhere = [
        Right(group=group, resource=resource, verb=verb)
        for group, kinds in _READS.items()
        for resource in kinds
        for verb in ("list", "watch")
    ]
    return (
        *everywhere,
        Right(resource="namespaces", verb="get"),
        Right(namespace=istio_namespace, resource="configmaps", verb="get", names=("istio",)),
    )


def missing_right(cluster: Cluster, istio_namespace: str, deadline: Deadline) -> str:
    """The first right that istioctl needs and this user has not, or of which nobody could tell; empty if it has all.

    One question for who may do everything, three for who may not read Secrets, the whole list for the others.
    """
    needed = rights(istio_namespace)
    if writes.reviews(cluster, [_EVERYTHING], deadline=deadline)[_EVERYTHING]:
        return ""
    for some in (needed[:2], needed[2:]):
        answers = writes.reviews(cluster, some, deadline=deadline)
        lacking = next((right for right in some if not answers[right]), None)
        if lacking is not None:
            return str(lacking) if lacking.namespace else f"{lacking} in all namespaces"
    return ""


def analyze(
    namespace: str,
    *,
    istio_namespace: str,
    revision: str = "",
    kubeconfig: Path | None = None,
    context: str = "",
    program: str = PROGRAM,
    seconds: float = SECONDS,
) -> IstioctlAnalysis:
    """Run it for one namespace; never raises for what the program does.

    Args:
        namespace: to analyze; the caller knows that it exists, because istioctl says nothing of one that does not.
        istio_namespace: of the control plane.
        revision: of the control plane; empty for the default one.
        kubeconfig: the file to use, None for the program's own choice, which is kubectl's.
        context: of the kubeconfig; empty for its current one.
        program: what to run.
        seconds: after which it is ended.

    Raises:
        KeyboardInterrupt: where the run was interrupted meanwhile; the program is ended before.
    """
    command = [program, "analyze", "--namespace", namespace, "--istioNamespace", istio_namespace, "--output", "json"]
    command += ["--revision", revision] if revision not in ("", "default") else []
    command += ["--kubeconfig", str(kubeconfig.expanduser())] if kubeconfig else []
    command += ["--context", context] if context else []
    deadline = Deadline(seconds)
    try:
        done = _run([*command, *([_ONLY_HERE, context] if context else [])], deadline)
        if f"unknown flag: {_ONLY_HERE}" in done.stderr:  # an older one, which enters other clusters only where it is told to
            done = _run(command, deadline)
    except subprocess.TimeoutExpired:
        return IstioctlAnalysis(problem=f"{PROGRAM} analyze did not end within {seconds:g} s")
    except OSError as error:
        return IstioctlAnalysis(problem=f"{PROGRAM} could not be run: {error.strerror or type(error).__name__}")
    found = messages(done.stdout)
    if found is None:
        return IstioctlAnalysis(problem=f"{PROGRAM} analyze printed no messages (exit code {done.returncode}): {_complaint(done.stderr)}")
    return IstioctlAnalysis(messages=found)


def _run(command: Sequence[str], deadline: Deadline) -> subprocess.CompletedProcess[str]:
    """Run it in a process group of its own, which holds the credential plugin that it may start; nothing of it outlives this call.

    Raises:
        subprocess.TimeoutExpired: where it did not end in time.
        OSError: where it could not be started.
    """
    process = subprocess.Popen(  # noqa: S603 - the program that the user installed, with arguments of ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=deadline.left)
    finally:
        _end(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and what it started, if it has not ended by itself."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def messages(text: str) -> tuple[AnalysisMessage, ...] | None:
    """The array in what it printed, before which there may be lines of its log; None where there is none.

    Entries that are no messages are passed over.
    """
    decoder = json.JSONDecoder()
    position = 0
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            try:
                found, _ = decoder.raw_decode(text, position + len(line) - len(line.lstrip()))
            except ValueError:
                found = None
            if isinstance(found, list):
                return tuple(made for item in found if (made := _message(item)) is not None)
        position += len(line)
    return None


def _message(item: object) -> AnalysisMessage | None:
    try:
        made = msgspec.convert(item, AnalysisMessage, strict=False)
    except msgspec.ValidationError:
        return None
    return msgspec.structs.replace(made, message=made.message[:_LONGEST_MESSAGE]) if made.code and made.message else None


def beside(
    snapshot: Snapshot,
    cluster: Cluster,
    *,
    kubeconfig: Path | None = None,
    seconds: float = SECONDS,
    progress: Callable[[str], None] | None = None,
) -> Snapshot:
    """The snapshot of a live cluster with what istioctl says of it; the same one where istioctl is not installed.

    Where something was refused to us already, istioctl is not run and nothing more is asked.

    Args:
        snapshot: what was read of the cluster.
        cluster: the same cluster, to ask for rights.
        kubeconfig: ``--mesh-kubeconfig``, None without.
        seconds: for everything here, at most.
        progress: told what is being waited for.
    """
    program = installed()
    if not program:
        return snapshot
    refused = next((refusal for refusal in snapshot.refusals if not refusal.absent), None)
    if refused is not None:
        return _not_run(snapshot, f"it reads more than this run, which could not read {refused.resource}")
    if cluster.context == IN_CLUSTER:
        return _not_run(snapshot, "in a pod without a kubeconfig it cannot be kept from entering other clusters of the mesh")
    deadline, say = Deadline(min(seconds, SECONDS)), progress or (lambda _: None)
    say(f"the rights that {PROGRAM} analyze needs")
    missing = missing_right(cluster, snapshot.istio_namespace, deadline)
    if missing:
        return _not_run(snapshot, f"it needs a right that is missing: {missing}")
    say(f"{PROGRAM} analyze")
    said = analyze(
        snapshot.namespace,
        istio_namespace=snapshot.istio_namespace,
        revision=snapshot.control_plane.revision if snapshot.control_plane else "",
        kubeconfig=kubeconfig,
        context=cluster.context,
        program=program,
        seconds=deadline.left,
    )
    return msgspec.structs.replace(snapshot, istioctl=said)


def _not_run(snapshot: Snapshot, why: str) -> Snapshot:
    return msgspec.structs.replace(snapshot, istioctl=IstioctlAnalysis(problem=f"{PROGRAM} analyze was not run: {why}"))


def _complaint(text: str) -> str:
    """Its last error; other lines are a credential plugin's, and may hold anything."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("Error: ")]
    return lines[-1][:_LONGEST] if lines else "it named no error"
