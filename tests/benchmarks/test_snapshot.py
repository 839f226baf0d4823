"""Reading ten thousand pods from the real API server, against ``kubectl get --raw`` of the same lists."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

NAMESPACE = "meshready-bench"
PODS = 10_000
ROUNDS = 5
#: Times kubectl's own time, and MiB; CI fails above twice a bound.
TIME_BOUND, MEMORY_BOUND = 1.5, 256

#: Runs in a process of its own, as a user's run does: reads the lists and tells seconds, pods and the peak of memory.
READ = """
import json, resource, time
from pytest_meshready.cluster import client, live
from pytest_meshready.waiting import Deadlines
cluster = client.connect(None, None, Deadlines())
cluster.get("/version")
began = time.perf_counter()
snapshot = live.take(cluster, namespace=NAMESPACE, reads=frozenset({"pods"}), istio_namespace=None, revision=None,
                     deadlines=Deadlines(), progress=None)
seconds = time.perf_counter() - began
pods = sum(pod.metadata.namespace == NAMESPACE for pod in snapshot.pods)
print(json.dumps([seconds, pods, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""

pytestmark = pytest.mark.cluster


def pod(number: int) -> dict[str, object]:
    """A pod that no scheduler takes, so that it is a plain object."""
    container = {"name": "app", "image": "docker.io/mesh/app:1", "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}
    env = [{"name": f"SETTING_{n}", "value": "x" * 60} for n in range(10)]
    spec = {"schedulerName": "none", "containers": [{**container, "env": env}]}
    labels = {"app": f"app-{number % 100}", "version": "v1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number:05}", "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def ten_thousand_pods() -> Iterator[None]:
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], check=True, capture_output=True)
    try:
        with ThreadPoolExecutor(4) as pool:
            size = PODS // 40
            list(pool.map(create, [range(start, start + size) for start in range(0, PODS, size)]))
        yield
    finally:
        command = ["kubectl", "-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false"]
        subprocess.run(command, check=False, capture_output=True, timeout=600)
        subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--wait=true"], check=False, capture_output=True, timeout=600)


def create(numbers: range) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [pod(number) for number in numbers]}
    command = ["kubectl", "-n", NAMESPACE, "create", "--validate=false", "-f", "-"]
    subprocess.run(command, input=json.dumps(items), text=True, check=True, capture_output=True, timeout=900)


def kubectl_raw() -> float:
    """Seconds of one unpaged ``kubectl get --raw`` for each list, to /dev/null: the fastest that kubectl can be."""
    paths = [
        f"/api/v1/namespaces/{NAMESPACE}/pods",
        "/api/v1/namespaces/istio-system/pods",
        "/api/v1/namespaces",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    ]
    began = time.perf_counter()
    for path in paths:
        subprocess.run(["kubectl", "get", "--raw", path], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


@pytest.mark.usefixtures("ten_thousand_pods")
def test_ten_thousand_pods() -> None:
    """Interleaved rounds; the medians decide."""
    ours, theirs, memory = [], [], []
    for _ in range(ROUNDS):
        theirs.append(kubectl_raw())
        done = subprocess.run([sys.executable, "-c", f"NAMESPACE={NAMESPACE!r}\n{READ}"], check=True, capture_output=True, text=True)
        seconds, pods, peak = json.loads(done.stdout)
        assert pods == PODS
        ours.append(seconds)
        memory.append(peak)
    ratio = statistics.median(ours) / statistics.median(theirs)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, CPython {platform.python_version()}"
    print(
        f"\nsnapshot of {PODS} pods on {machine}: {statistics.median(ours):.2f} s, kubectl get --raw {statistics.median(theirs):.2f} s: "
        f"{ratio:.2f} times (bound {TIME_BOUND}); peak {max(memory):.0f} MiB (bound {MEMORY_BOUND})"
    )
    assert ratio < 2 * TIME_BOUND
    assert max(memory) < 2 * MEMORY_BOUND
