"""The life of a run's objects: what is created, what is said when that fails, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_meshready.cluster.writes import AUTHORIZATION_POLICY, JOB, POD, SERVICE_ACCOUNT
from pytest_meshready.interrupts import Interrupts
from pytest_meshready.probes import cleanup, lease, pod
from pytest_meshready.probes.guests import Guest, GuestPod, Guests, Ready, Reason, Trouble, describe, described, inspect
from pytest_meshready.probes.rights import exec_rights, rights, rights_in
from pytest_meshready.waiting import Deadline, Deadlines, skipping, until
from tests.unit import kubeapi
from tests.unit.apiserver import Reply, status

RUN = "3f2a9c01"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/payments/leases/meshready"
PODS = "/api/v1/namespaces/payments/pods"
CONFIG_MAPS = "/api/v1/namespaces/payments/configmaps"


@pytest.fixture
def api() -> Iterator[kubeapi.Api]:
    with kubeapi.serving() as serving:
        yield serving


@pytest.fixture
def invite(api: kubeapi.Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Guests]]:
    """Makes guests that are removed at the end of the test."""
    monkeypatch.setattr(cleanup, "_LOOK", 0.02)
    invited: list[Guests] = []

    def make(run: str = RUN, *, namespaces: tuple[str, ...] = ("payments", "payments"), **options: Any) -> Guests:
        pods, objects = [], []
        for role, namespace in zip(("inside", "outside"), namespaces, strict=True):
            about = pod.Run(id=run, namespace=namespace)
            objects += [pod.agent(about), pod.service_account(about)] if role == "inside" or namespace != namespaces[0] else []
            pods.append(Guest(role=role, manifest=pod.probe(about, role, injection=pod.Injection.NO)))
        patience = {"patience": 20.0, "lease_patience": 5.0, **options}
        invited.append(Guests(api.cluster(), run, "payments", pods=pods, objects=objects, **patience))
        return invited[-1]

    yield make
    api.trouble = lambda _: None
    for guests in invited:
        guests.remove()


def held_by(run: str, *, renewed: float) -> dict[str, Any]:
    """A Lease of another run, renewed so many seconds ago."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() - renewed))
    spec = {"holderIdentity": f"{run}/alice@laptop", "leaseDurationSeconds": 15, "renewTime": moment, "acquireTime": moment}
    return {"kind": "Lease", "metadata": {"name": "meshready", "namespace": "payments"}, "spec": spec}


def trouble(outcome: Ready | Trouble) -> Trouble:
    assert isinstance(outcome, Trouble)
    return outcome


def come(outcome: Ready | Trouble) -> Ready:
    assert isinstance(outcome, Ready), outcome
    return outcome


# --- the visit ---


def test_everything_is_created_and_nothing_is_left(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Lease, anchor, agent, account and pods are there while the run lasts, and gone afterwards."""
    guests = invite()
    found = come(guests.wait())
    assert sorted(found.pods) == ["inside", "outside"]
    assert api.names() == [
        f"configmaps/meshready-{RUN}",
        f"configmaps/meshready-{RUN}-agent",
        "leases/meshready",
        f"pods/meshready-{RUN}-inside",
        f"pods/meshready-{RUN}-outside",
        f"serviceaccounts/meshready-{RUN}",
    ]
    left = guests.remove()
    assert (left.objects, left.because) == ((), "")
    assert api.names() == []


def test_every_object_is_marked_and_owned(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """The label finds every object, and all but anchor and Lease go with the anchor."""
    invite().wait()
    anchor = api.objects[f"{CONFIG_MAPS}/meshready-{RUN}"]["metadata"]["uid"]
    for path, item in api.objects.items():
        assert item["metadata"]["labels"]["meshready.io/run"] == RUN, path
        owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences", ())]
        assert owners == ([] if path.endswith((f"/meshready-{RUN}", "/meshready")) and "serviceaccounts" not in path else [anchor]), path


def test_starting_does_not_block(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Static checks run while a slow API server makes the pods."""
    gate = threading.Event()

    def slow(_: kubeapi.Request) -> None:
        gate.wait(5)

    api.trouble = slow
    before = time.monotonic()
    guests = invite()
    guests.start()
    assert time.monotonic() - before < 0.2
    gate.set()
    assert isinstance(guests.wait(), Ready)


def test_guests_in_two_namespaces(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Each namespace has its own anchor, because an owner must be in the same namespace; the Lease is at home."""
    guests = invite(namespaces=("payments", "legacy"))
    assert come(guests.wait()).pods["outside"].namespace == "legacy"
    legacy = api.objects[f"/api/v1/namespaces/legacy/configmaps/meshready-{RUN}"]
    assert legacy["metadata"]["annotations"]["meshready.io/home"] == "payments"
    owner = api.objects[f"/api/v1/namespaces/legacy/pods/meshready-{RUN}-outside"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == legacy["metadata"]["uid"]
    assert [path for path in api.objects if "leases" in path] == [LEASE]
    assert guests.remove().objects == ()
    assert api.names() == []


def test_only_the_rights_that_are_listed_are_used(api: kubeapi.Api, invite: Callable[..., Guests], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `rights` lists and what a run does are the same, verb by verb."""
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    guests = invite()
    guests.wait()
    time.sleep(0.3)
    guests.remove()
    assert api.asked() == {f"{right.verb} {right.resource}" for right in rights_in(guests.places, home="payments")}


def test_exec_needs_more_from_1_35_on() -> None:
    """checks.md B7: get alone on 1.34; create besides on newer servers, and on those whose version nobody knows."""
    assert [right.verb for right in exec_rights(["payments"], "v1.34.4")] == ["get"]
    assert [right.verb for right in exec_rights(["payments"], "v1.35.0-rc.1")] == ["create", "get"]
    assert [right.verb for right in exec_rights(["payments"], "")] == ["create", "get"]


def test_worker_gets_plain_data(invite: Callable[..., Guests]) -> None:
    """What `wait` returns survives JSON on its way to a worker, whether it is good or bad."""
    found = invite().wait()
    assert described(json.loads(json.dumps(describe(found)))) == found
    bad = Trouble(reason=Reason.QUOTA, sentence="no room")
    assert described(json.loads(json.dumps(describe(bad)))) == bad


def test_one_more_object_goes_with_the_others(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A Job that is created later is owned by the anchor, its pods carry the label, and both are gone at the end."""
    guests = invite(kinds=(JOB,))
    guests.wait()
    about = pod.Run(id=RUN, namespace="payments")
    assert guests.create(pod.job(about, "inside", 1, [b"{}\n"], injection=pod.Injection.NO)) is None
    made = next(item for path, item in api.objects.items() if "/jobs/" in path)
    assert made["metadata"]["ownerReferences"][0]["name"] == f"meshready-{RUN}"
    template = made["spec"]["template"]["metadata"]
    assert template["labels"]["meshready.io/run"] == RUN
    assert template["annotations"]["meshready.io/home"] == "payments"
    guests.remove()
    assert api.names() == []


def test_a_namespace_gets_only_the_kinds_that_live_there(invite: Callable[..., Guests]) -> None:
    """Rights are asked for where they are used: a kind at home is not asked for in the second namespace."""
    guests = invite(namespaces=("payments", "legacy"), kinds=(JOB,))
    needed = {(right.namespace, right.resource) for right in rights_in(guests.places, home="payments")}
    assert {resource for namespace, resource in needed if namespace == "payments"} == {
        "configmaps",
        "jobs",
        "leases",
        "pods",
        "serviceaccounts",
    }
    assert set(rights(["payments", "legacy"], home="payments")) < set(rights_in(guests.places, home="payments"))
    assert {resource for namespace, resource in needed if namespace == "legacy"} == {"configmaps", "pods", "serviceaccounts"}


def test_worker_marks_what_it_creates(invite: Callable[..., Guests]) -> None:
    """A worker knows the anchors, so what it creates for the run goes with the others."""
    found = come(invite().wait())
    job = pod.job(pod.Run(id=RUN, namespace="payments"), "inside", 1, [b"{}\n"], injection=pod.Injection.NO)
    metadata = cleanup.marked(job, run=found.run, home=found.namespace, anchors=found.anchors)["metadata"]
    assert metadata["ownerReferences"][0]["uid"] == found.anchors["payments"]
    assert metadata["annotations"]["meshready.io/home"] == "payments"


def test_kind_that_nobody_would_look_for_is_not_created(invite: Callable[..., Guests]) -> None:
    """The clean-up looks for the kinds that were announced; others are refused before they are made."""
    guests = invite()
    guests.wait()
    with pytest.raises(ValueError, match="AuthorizationPolicy is not among the kinds"):
        guests.create(dict(AUTHORIZATION_POLICY.manifest("payments", "a")))


# --- trouble ---


def refusing(plural: str, code: int, message: str) -> Callable[[kubeapi.Request], Reply | None]:
    """Answers creations of this plural so."""

    def answer(request: kubeapi.Request) -> Reply | None:
        asked = request.method == "POST" and request.path.endswith(f"/{plural}")
        return kubeapi.refusal(code, message, "Forbidden") if asked else None

    return answer


@pytest.mark.parametrize(
    ("code", "message", "reason", "words"),
    [
        pytest.param(
            403,
            'pods "a" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities (container "istio-init" must ...)',
            Reason.POD_SECURITY,
            ("without Istio's CNI plugin", "istio-init", "kubectl get namespace payments --show-labels"),
            id="istio-init under restricted",
        ),
        pytest.param(
            403,
            'pods "a" is forbidden: violates PodSecurity "restricted:latest": seccompProfile (pod or container "agent" must set ...)',
            Reason.POD_SECURITY,
            ("'restricted' is enforced in payments", "seccompProfile"),
            id="pod security",
        ),
        pytest.param(
            403,
            'pods "a" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0',
            Reason.QUOTA,
            ("exceeded quota: none", "kubectl describe resourcequota -n payments"),
            id="quota",
        ),
        pytest.param(
            403,
            'pods "a" is forbidden: maximum cpu usage per Container is 50m, but limit is 500m',
            Reason.LIMIT_RANGE,
            ("maximum cpu usage per Container is 50m", "kubectl describe limitrange -n payments"),
            id="limit range",
        ),
        pytest.param(
            400,
            'admission webhook "a.example.com" denied the request: no latest tags',
            Reason.ADMISSION,
            ("no latest tags",),
            id="webhook",
        ),
        pytest.param(
            403,
            'pods "a" is forbidden: unable to create new content in namespace payments because it is being terminated',
            Reason.TERMINATING,
            ("namespace payments is being deleted",),
            id="terminating",
        ),
        pytest.param(
            403,
            'pods is forbidden: User "bob" cannot create resource "pods" in API group "" in the namespace "payments"',
            Reason.FORBIDDEN,
            ("not permitted: create pods in payments", "--mesh-rbac"),
            id="forbidden",
        ),
    ],
)
def test_refused_pods(  # noqa: PLR0917 - parameters of a table
    api: kubeapi.Api, invite: Callable[..., Guests], code: int, message: str, reason: Reason, words: tuple[str, ...]
) -> None:
    """Each refusal is one sentence with the cause and the next command, and nothing is left of the attempt."""
    api.trouble = refusing("pods", code, message)
    guests = invite()
    found = trouble(guests.wait())
    assert found.reason is reason
    for word in words:
        assert word in found.sentence
    assert "\n" not in found.sentence
    assert guests.remove().objects == ()
    assert api.names() == []


def test_one_refused_guest_does_not_send_the_other_away(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Without room for the meshed pod the unmeshed one still serves; the lines of the other say why."""

    def full(request: kubeapi.Request) -> Reply | None:
        inside = request.method == "POST" and request.path == PODS and request.content["metadata"]["name"].endswith("inside")
        return kubeapi.refusal(403, 'pods "a" is forbidden: exceeded quota: q', "Forbidden") if inside else None

    api.trouble = full
    found = come(invite().wait())
    assert isinstance(found.pod("outside"), GuestPod)
    missing = found.pod("inside")
    assert isinstance(missing, Trouble)
    assert missing.reason is Reason.QUOTA


def test_missing_rights_are_all_named_before_anything_is_tried(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Who may not delete must not create either: nothing is tried, and every missing right is named."""
    api.denied = {"create pods", "list pods", "delete configmaps"}
    found = trouble(invite().wait())
    assert (found.reason, found.verb, found.resource, found.namespace) == (Reason.FORBIDDEN, "delete", "configmaps", "payments")
    assert "missing: delete configmaps in payments, create and list pods in payments;" in found.sentence
    assert api.asked() == set()


def test_exec_forbidden_is_noticed_and_the_pods_come_all_the_same(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """The right to exec is asked for first, so that the batch can run as a Job."""
    api.denied = {"get pods/exec"}
    found = come(invite().wait())
    assert found.without_exec is not None
    assert found.without_exec.reason is Reason.EXEC_FORBIDDEN
    assert found.without_exec.unknown().resource == "pods/exec"


def test_rights_that_nobody_can_tell_are_tried(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Where access reviews are refused, what happens decides."""
    api.trouble = lambda request: kubeapi.refusal(403, "no reviews", "Forbidden") if request.path == kubeapi.REVIEWS else None
    assert isinstance(invite().wait(), Ready)


def test_api_server_restarting_in_the_middle(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Two requests of every kind meet a server that is away; the guests come all the same."""
    away: dict[str, int] = {}

    def restarting(request: kubeapi.Request) -> Reply | None:
        away[str(request)] = away.get(str(request), 0) + 1
        return (0, {}, b"") if away[str(request)] <= 2 else None

    api.trouble = restarting
    with skipping():
        assert sorted(come(invite().wait()).pods) == ["inside", "outside"]


def test_api_server_away_until_the_deadline(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A server that does not come back within the deadline is named as the cause."""
    api.trouble = lambda request: status(503, "etcd is down") if request.path == PODS else None
    with skipping():
        found = trouble(invite().wait())
    assert found.reason is Reason.UNREACHABLE
    assert "503" in found.sentence


def test_broken_pod_is_given_up_at_once_and_slow_ones_at_the_deadline(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """An image that cannot be pulled is not waited for; a container that is being created is, until the deadline."""

    def broken(item: dict[str, Any]) -> dict[str, Any]:
        inside = item["metadata"]["name"].endswith("inside")
        reason = "ImagePullBackOff" if inside else "ContainerCreating"
        return {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": reason}}}]}

    api.pod = broken
    before = time.monotonic()
    with skipping():
        found = trouble(invite().wait())
    assert time.monotonic() - before < 5
    assert found.reason is Reason.IMAGE


def test_no_node_may_come_a_little_later(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Unschedulable for some seconds is normal; only then it is the cause."""
    looks = 0

    def later(item: dict[str, Any]) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available."}
        return kubeapi.ready(item) if looks > 8 else {"phase": "Pending", "conditions": [unschedulable]}

    api.pod = later
    with skipping():
        assert isinstance(invite().wait(), Ready)
    api.pod = lambda _: {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes."}]}
    with skipping() as clock:
        assert trouble(invite("00000002", lease_patience=60.0).wait()).reason is Reason.LEASE_HELD
        assert sum(clock.slept) > 0


def test_guest_that_vanishes_while_it_starts(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Somebody deletes our pod before it is ready: that is said, and not waited for."""

    def vanish(item: dict[str, Any]) -> dict[str, Any]:
        api.objects.pop(f"{PODS}/{item['metadata']['name']}", None)
        return {"phase": "Pending"}

    api.pod = vanish
    with skipping():
        assert trouble(invite().wait()).reason is Reason.GONE


def test_what_became_of_a_guest_that_stopped_answering(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """In the middle of the run: ready, evicted, or gone."""
    ready = come(invite().wait()).pods["inside"]
    assert inspect(api.cluster(), ready) is None
    api.pod = lambda _: {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    evicted = inspect(api.cluster(), ready)
    assert evicted is not None
    assert evicted.reason is Reason.EVICTED
    del api.objects[f"{PODS}/{ready.name}"]
    gone = inspect(api.cluster(), ready)
    assert gone is not None
    assert gone.reason is Reason.GONE


# --- the Lease ---


def test_second_run_names_the_first(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """It waits up to its deadline and then says which run, of whom, since when; it creates nothing."""
    api.put(LEASE, held_by("aaaa0001", renewed=1))
    with skipping():
        found = trouble(invite().wait())
    assert found.reason is Reason.LEASE_HELD
    assert "run aaaa0001 of alice@laptop, since 20" in found.sentence
    assert "5 s" in found.sentence
    assert api.names() == ["leases/meshready"]


def test_second_run_begins_when_the_first_ends(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """The Lease is given back at the end, and who waits for it gets it."""
    first, second = invite("aaaa0001"), invite("bbbb0002", lease_patience=20.0)
    first.wait()
    second.start()
    assert first.remove().objects == ()
    assert isinstance(second.wait(), Ready)


def test_expired_lease_is_taken_over(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A run that was killed does not lock the namespace for more than 15 seconds; what it left is reported."""
    api.put(LEASE, held_by("aaaa0001", renewed=20))
    about = pod.Run(id="aaaa0001", namespace="payments")
    api.put(f"{CONFIG_MAPS}/{about.name}", pod.anchor(about))
    found = come(invite().wait())
    assert found.leftovers == ("aaaa0001",)
    assert api.objects[LEASE]["spec"]["holderIdentity"].startswith(f"{RUN}/")


def test_expiry_is_judged_by_the_servers_clock(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A runner whose clock is an hour behind does not take a live Lease for an expired one, nor the reverse."""
    api.ahead = -3600
    api.put(LEASE, held_by("aaaa0001", renewed=3600 + 2))
    with skipping():
        assert trouble(invite().wait()).reason is Reason.LEASE_HELD


def test_lost_lease_is_noticed(api: kubeapi.Api, invite: Callable[..., Guests], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was too slow and finds somebody else's name in the Lease says so, and leaves that Lease alone at the end."""
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    guests = invite()
    guests.wait()
    assert guests.lost is None
    api.put(LEASE, held_by("cccc0003", renewed=0))
    found = until(lambda: guests.lost, every=0.02, deadline=Deadline(5))
    assert found is not None
    assert found.reason is Reason.LEASE_LOST
    assert "run cccc0003 of alice@laptop" in found.sentence
    guests.remove()
    assert api.names() == ["leases/meshready"]


def test_lease_survives_a_restart_of_the_server(api: kubeapi.Api, invite: Callable[..., Guests], monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewals that fail for a while are no loss as long as nobody else took the Lease."""
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    guests = invite()
    guests.wait()
    api.trouble = lambda request: status(500, "etcdserver: leader changed") if request.method == "PUT" else None
    time.sleep(0.3)
    api.trouble = lambda _: None
    version = api.objects[LEASE]["metadata"]["resourceVersion"]
    time.sleep(0.7)
    assert guests.lost is None
    assert api.objects[LEASE]["metadata"]["resourceVersion"] != version


# --- the end ---


def test_removing_twice_and_before_the_start(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Removing may be called at any time and any number of times; a run that never began sends nothing."""
    idle = invite()
    assert idle.remove().because == ""
    assert api.requests == []
    assert trouble(idle.wait()).reason is Reason.STOPPED
    guests = invite("bbbb0002")
    guests.wait()
    assert guests.remove() is guests.remove()


def test_removing_in_the_middle_of_the_arrival(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Ctrl-C while pods are being created: nothing that was under way stays."""
    entered, gate = threading.Event(), threading.Event()

    def slow(request: kubeapi.Request) -> None:
        if request.method == "POST" and request.path == PODS:
            entered.set()
            gate.wait(1)

    api.trouble = slow
    guests = invite()
    guests.start()
    assert entered.wait(5)
    left = guests.remove()
    assert left.objects == ()
    assert trouble(guests.wait()).reason is Reason.STOPPED
    assert api.names() == []


def test_what_cannot_be_removed_is_named(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A pod that stays (its node does not answer) is reported with the command that removes it."""
    guests = invite()
    guests.wait()
    api.undeletable = {f"{PODS}/meshready-{RUN}-inside"}
    with skipping():
        left = guests.remove()
    assert left.objects == (f"Pod/payments/meshready-{RUN}-inside",)
    assert "still there" in left.because
    assert left.command == f"kubectl delete configmaps,pods,serviceaccounts -n payments -l meshready.io/run={RUN}"
    api.undeletable = set()


def test_clean_up_without_a_server_does_not_raise(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """Nobody can look: the report says what may be left, and how to remove it."""
    guests = invite()
    guests.wait()
    api.trouble = lambda _: status(503, "away")
    with skipping():
        left = guests.remove()
    assert f"ConfigMap/payments/meshready-{RUN}" in left.objects
    assert "503" in left.because
    assert "kubectl delete" in left.command


def test_keep_leaves_everything_but_the_lease(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """With ``--mesh-keep`` the pods stay to be looked at, the next run can begin, and the command to remove them is printed."""
    guests = invite(keep=True)
    guests.wait()
    left = guests.remove()
    assert f"Pod/payments/meshready-{RUN}-inside" in left.objects
    assert "--mesh-keep" in left.because
    assert "leases/meshready" not in api.names()
    assert f"pods/meshready-{RUN}-inside" in api.names()


def test_interrupt_during_clean_up_does_not_stop_it(api: kubeapi.Api, invite: Callable[..., Guests]) -> None:
    """A first Ctrl-C while it cleans up is ignored: the clean-up is what Ctrl-C asks for."""
    guests = invite()
    guests.wait()
    api.trouble = lambda request: time.sleep(0.3) if request.method == "DELETE" else None
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert guests.remove().objects == ()
    assert api.names() == []


def test_sigterm_becomes_an_interrupt() -> None:
    """While installed, SIGTERM raises KeyboardInterrupt; afterwards the process's own handling is back."""
    before = signal.getsignal(signal.SIGTERM)
    interrupts = Interrupts()
    interrupts.install()
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        interrupts.restore()
    assert signal.getsignal(signal.SIGTERM) == before


def test_handlers_of_others_are_respected() -> None:
    """A signal that somebody handles or ignores already is left alone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts = Interrupts()
    try:
        interrupts.install()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        interrupts.restore()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# --- sweeping ---


def leave(api: kubeapi.Api, run: str, *, namespace: str = "payments", home: str = "payments") -> None:
    """What a killed run leaves: its anchor and a pod."""
    about = pod.Run(id=run, namespace=namespace)
    for manifest, plural in ((pod.anchor(about), "configmaps"), (pod.probe(about, "inside", injection=pod.Injection.NO), "pods")):
        metadata = {**manifest["metadata"], "annotations": {"meshready.io/home": home}}
        api.put(f"/api/v1/namespaces/{namespace}/{plural}/{manifest['metadata']['name']}", {**manifest, "metadata": metadata})


def sweep(api: kubeapi.Api, *namespaces: str, run: str | None = None, seconds: float = 60.0) -> cleanup.Swept:
    with skipping():
        return cleanup.sweep(api.cluster(Deadlines(request=1.0)), namespaces or ("payments",), run=run, deadline=Deadline(seconds))


def test_sweep_removes_what_a_killed_run_left(api: kubeapi.Api) -> None:
    """Its Lease has expired: the Lease goes first, then everything with its label."""
    leave(api, "aaaa0001")
    api.put(LEASE, held_by("aaaa0001", renewed=60))
    swept = sweep(api)
    assert swept.left == ()
    assert sorted(swept.removed) == [
        "ConfigMap/payments/meshready-aaaa0001",
        "Lease/payments/meshready",
        "Pod/payments/meshready-aaaa0001-inside",
    ]
    assert api.names() == []


def test_sweep_never_touches_a_live_run(api: kubeapi.Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease that is renewed while the sweep waits for its end belongs to a live run; another run's remains go all the same."""
    leave(api, "aaaa0001")
    leave(api, "bbbb0002")
    api.put(LEASE, held_by("aaaa0001", renewed=1))
    looks = 0

    def renew(request: kubeapi.Request) -> None:
        nonlocal looks
        if request.path == LEASE and request.method == "GET":
            looks += 1
            if looks == 3:
                api.put(LEASE, held_by("aaaa0001", renewed=-1))

    api.trouble = renew
    swept = sweep(api)
    assert [left.objects for left in swept.left] == [("ConfigMap/payments/meshready-aaaa0001", "Pod/payments/meshready-aaaa0001-inside")]
    assert "run aaaa0001 is alive: alice@laptop has renewed its Lease" in swept.left[0].because
    assert api.names() == ["configmaps/meshready-aaaa0001", "leases/meshready", "pods/meshready-aaaa0001-inside"]


def test_sweep_waits_for_a_lease_that_is_about_to_expire(api: kubeapi.Api) -> None:
    """A run killed a moment ago still holds its Lease: the sweep waits for its end and then removes."""
    leave(api, "aaaa0001")
    api.put(LEASE, held_by("aaaa0001", renewed=14))
    swept = cleanup.sweep(api.cluster(), ("payments",), deadline=Deadline(20))
    assert swept.left == ()
    assert api.names() == []


def test_sweep_of_one_run_leaves_the_others(api: kubeapi.Api) -> None:
    """``--mesh-sweep=RUN`` is about that run alone."""
    leave(api, "aaaa0001")
    leave(api, "bbbb0002")
    assert sweep(api, run="bbbb0002").left == ()
    assert api.names() == ["configmaps/meshready-aaaa0001", "pods/meshready-aaaa0001-inside"]


def test_sweep_asks_the_lease_at_home(api: kubeapi.Api) -> None:
    """Objects in a second namespace belong to a run whose Lease is elsewhere: that Lease decides."""
    leave(api, "aaaa0001", namespace="legacy")
    api.put(LEASE, held_by("aaaa0001", renewed=1))
    swept = sweep(api, "legacy", seconds=5)
    assert "had not expired after 5 s" in swept.left[0].because
    del api.objects[LEASE]
    assert sweep(api, "legacy").left == ()
    assert api.names() == []


def test_sweep_learns_the_home_from_the_anchor(api: kubeapi.Api) -> None:
    """A pod that does not say where its run's Lease is belongs to the run of its anchor, which is alive."""
    leave(api, "aaaa0001", namespace="legacy")
    path = "/api/v1/namespaces/legacy/pods/meshready-aaaa0001-inside"
    del api.objects[path]["metadata"]["annotations"]
    api.put(LEASE, held_by("aaaa0001", renewed=1))
    assert sweep(api, "legacy", seconds=5).removed == ()
    assert path in api.objects


def test_sweep_removes_a_lease_alone(api: kubeapi.Api) -> None:
    """A run that was killed right after it took the Lease left nothing else."""
    api.put(LEASE, held_by("aaaa0001", renewed=60))
    assert sweep(api).removed == ("Lease/payments/meshready",)


def test_sweep_says_what_it_may_not_see(api: kubeapi.Api) -> None:
    """Kinds that may not be listed are named; the others are swept."""
    leave(api, "aaaa0001")
    jobs = 'jobs.batch is forbidden: User "bob" cannot list resource "jobs" in API group "batch" in the namespace "payments"'
    api.trouble = lambda request: kubeapi.refusal(403, jobs, "Forbidden") if request.path.endswith("/jobs") else None
    swept = sweep(api)
    assert [unseen.partition(":")[0] for unseen in swept.unseen] == ["jobs.batch in payments"]
    assert api.names() == []


def test_nothing_to_sweep(api: kubeapi.Api) -> None:
    """A clean namespace is swept without a trace."""
    assert sweep(api) == cleanup.Swept()


def test_command_names_every_kind_and_namespace() -> None:
    """The command that a person types removes everything of the run, in every namespace."""
    places = [(POD, "payments"), (SERVICE_ACCOUNT, "payments"), (AUTHORIZATION_POLICY, "legacy")]
    assert cleanup.command("r", places) == (
        "kubectl delete pods,serviceaccounts -n payments -l meshready.io/run=r; "
        "kubectl delete authorizationpolicies.security.istio.io -n legacy -l meshready.io/run=r"
    )
