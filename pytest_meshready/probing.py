"""The live half of a run: its guests in the cluster, and what they saw, for every process of the run.

The owner makes the guests in the background while the static checks run, asks every question of the live lines once, and
writes what came back into the run's folder. Checks read it from there, in whichever worker they run. A team's own tests talk
to the same pods through `Probes`. Where nobody needs a probe, none is made.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_meshready import handover
from pytest_meshready.cluster import writes
from pytest_meshready.cluster.client import Cluster
from pytest_meshready.cluster.snapshot import Snapshot
from pytest_meshready.cluster.writes import AUTHORIZATION_POLICY, SERVICE, Kind
from pytest_meshready.measuring import Measuring
from pytest_meshready.observing import INSIDE, OUTSIDE, Questions, Seen
from pytest_meshready.probes import pod
from pytest_meshready.probes.guests import Guest, GuestPod, Guests, Left, Outcome, Ready, Reason, Trouble, inspect
from pytest_meshready.probes.messages import Answer, Ask
from pytest_meshready.probes.rights import exec_rights, rights_in
from pytest_meshready.probes.session import JobSession, ProbeError, Prober, Session
from pytest_meshready.waiting import Deadline

if TYPE_CHECKING:
    from pytest_meshready.settings import Settings

#: The role of a third probe: without a proxy, in another namespace.
ELSEWHERE = "elsewhere"

_WANTED, _READY, _SEEN = "probes-wanted", "probes.json", "wire.json"

#: Seconds between two looks whether a test wants probes.
_LOOK = 0.1

#: What a call from pod to pod takes besides the pods: a Service, and a policy where the namespace denies by default.
INTRODUCING = (SERVICE, AUTHORIZATION_POLICY)

#: The lines that ask who called, and those that compare how pods start.
INTRODUCED, STARTED = frozenset({"7.1.1", "7.2.1", "7.3.2", "11.1.1"}), frozenset({"4.2.2"})


def account_role(account: str) -> str:
    """The role of the probe that borrows a service account."""
    return f"as-{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What this run may do besides making pods.

    ``exec``: whether probes can be talked to; otherwise they answer as Jobs. ``refused``: why it may not make a Service of its
    own, as a sentence; then the evidence of a call from pod to pod is missing, and nothing else.
    """

    exec: bool
    refused: str = ""


def allowed(cluster: Cluster, settings: Settings, snapshot: Snapshot, lines: frozenset[str]) -> Allowed:
    """Ask for the rights that a run can do without, in one go. No answer is taken for yes: what happens decides."""
    home = settings.namespace
    to_exec = exec_rights(namespaces(settings), snapshot.kubernetes_version or "1.34")
    own = {kind.plural for kind in INTRODUCING}
    to_introduce = [right for right in rights_in([(kind, home) for kind in INTRODUCING], home=home) if right.resource in own]
    wanted = bool(lines & INTRODUCED)
    answers = writes.reviews(cluster, (*to_exec, *(to_introduce if wanted else ())))
    missing = [right for right in to_introduce if answers.get(right) is False]
    refused = f"no call from pod to pod was made, because a right is missing: {missing[0]}" if missing else ""
    return Allowed(
        exec=all(answers[right] is not False for right in to_exec),
        refused=refused if wanted else "no line of this run asks who called",
    )


def namespaces(settings: Settings) -> tuple[str, ...]:
    """Where a run puts its guests."""
    return (settings.namespace, *((settings.probe_namespace,) if settings.probe_namespace else ()))


def guests_of(cluster: Cluster, run_id: str, settings: Settings, *, kinds: Sequence[Kind] = ()) -> Guests:
    """Everything that a run puts into the cluster, not yet made; ``kinds`` are those of which it may make more later."""
    home = pod.Run(id=run_id, namespace=settings.namespace, image=settings.probe_image)
    probe = functools.partial(pod.probe, home)
    visitors = [
        Guest(role=INSIDE, manifest=probe(INSIDE, injection=pod.Injection.AS_NAMESPACE)),
        Guest(role=OUTSIDE, manifest=probe(OUTSIDE, injection=pod.Injection.NO)),
        *(
            Guest(role=account_role(name), manifest=probe(account_role(name), injection=pod.Injection.AS_NAMESPACE, account=name))
            for name in settings.probe_service_accounts
        ),
    ]
    objects = [pod.agent(home), pod.service_account(home)]
    if settings.probe_namespace:
        away = pod.Run(id=run_id, namespace=settings.probe_namespace, image=settings.probe_image)
        visitors.append(Guest(role=ELSEWHERE, manifest=pod.probe(away, ELSEWHERE, injection=pod.Injection.NO)))
        objects += [pod.agent(away), pod.service_account(away)]
    return Guests(
        cluster,
        run_id,
        settings.namespace,
        pods=visitors,
        objects=objects,
        kinds=kinds,
        patience=settings.deadlines.snapshot,
        lease_patience=settings.deadlines.snapshot / 2,
        keep=settings.keep,
    )


class Probing:
    """The owner's part: makes the guests when somebody wants them, asks, writes down, and clears up."""

    def __init__(
        self,
        cluster: Cluster,
        run_id: str,
        settings: Settings,
        snapshot: Snapshot,
        folder: Path,
        *,
        measuring: Measuring,
        lines: frozenset[str],
    ) -> None:
        self._measuring = measuring
        self._lines = lines
        self._guests: Guests | None = None
        self._outcome: Outcome | None = None
        self._settings = settings
        self._cluster = cluster
        self._run = pod.Run(id=run_id, namespace=settings.namespace, image=settings.probe_image)
        self._snapshot = snapshot
        self._folder = folder
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="meshready-probing", daemon=True)

    def start(self, *, wanted: bool) -> None:
        """Begin: at once where a selected line is wanted live, else when a test asks (`want`)."""
        if wanted:
            want(self._folder)
        self._thread.start()

    @property
    def held(self) -> str:
        """The sentence that another run holds the namespace; empty where none does."""
        found = self._outcome
        return found.sentence if isinstance(found, Trouble) and found.reason is Reason.LEASE_HELD else ""

    @property
    def leftovers(self) -> tuple[str, ...]:
        """The ids of earlier runs that left something in the namespace."""
        return self._outcome.leftovers if isinstance(self._outcome, Ready) else ()

    def finish(self) -> Left:
        """Remove every guest; what is left, if anything, and the command for it."""
        self._stopped.set()
        with self._lock:
            return self._guests.remove() if self._guests else Left()

    def _work(self) -> None:
        while not (self._folder / _WANTED).exists():
            if self._stopped.wait(_LOOK):
                return
        try:
            may = allowed(self._cluster, self._settings, self._snapshot, self._lines)
            kinds = (*(() if may.exec else (writes.JOB,)), *(() if may.refused else INTRODUCING))
            with self._lock:
                if self._stopped.is_set():
                    return
                self._guests = guests_of(self._cluster, self._run.id, self._settings, kinds=kinds)
            outcome = self._outcome = self._guests.wait()
            handover.write(self._folder / _READY, outcome)
            seen = Seen(trouble=outcome.sentence) if isinstance(outcome, Trouble) else self._ask(outcome, may.refused)
            if lost := self._guests.lost:
                seen = Seen(trouble=lost.sentence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the checks must hear of it and not wait for ever
            trouble = Trouble(reason=Reason.NOT_READY, sentence=f"the probes broke: {error!r}")
            handover.write(self._folder / _READY, trouble)
            seen = Seen(trouble=trouble.sentence)
        handover.write(self._folder / _SEEN, seen)

    def _ask(self, ready: Ready, refused: str) -> Seen:
        """Every question of the live lines, from the probes and from the mesh's own backends at the same time."""
        probers = Probes(self._cluster, ready, self._run, create=self._create)
        try:
            return Questions(
                send=functools.partial(_ask_one, probers),
                create=self._create,
                cluster=self._cluster,
                snapshot=self._snapshot,
                settings=self._settings,
                run=self._run,
                measuring=self._measuring,
                stopped=self._stopped,
                refused=refused,
                starting=bool(self._lines & STARTED),
            ).ask(ready.pods)
        finally:
            probers.close()

    def _create(self, manifest: writes.Manifest) -> str:
        assert self._guests is not None
        trouble = self._guests.create(manifest)
        return trouble.sentence if trouble else ""


def _ask_one(probers: Probes, role: str, asks: Sequence[Ask], deadline: Deadline) -> tuple[Mapping[str, Answer], str]:
    try:
        return probers[role].ask(asks, deadline), ""
    except ProbeError as error:
        return {}, str(error)


class Probes:
    """The probe pods of the run, by their role: ``mesh_probe["inside"].ask([Ask(...)], Deadline(10))``.

    Roles: ``inside`` (in the mesh, with an account of its own), ``outside`` (no proxy), ``elsewhere`` (no proxy, in
    ``--mesh-probe-namespace``), and one for each account of ``probe_service_accounts`` (`Probes.account`).
    """

    def __init__(self, cluster: Cluster, outcome: Outcome, run: pod.Run, create: Callable[[writes.Manifest], str] | None = None) -> None:
        self._cluster = cluster
        self._outcome = outcome
        self._run = run
        self._create = create
        self._open: dict[str, Prober] = {}
        self._lock = threading.Lock()

    def __getitem__(self, role: str) -> Prober:
        """The probe of a role, with its conversation opened on first use.

        Raises:
            ProbeError: with one sentence, where there is no such probe.
        """
        with self._lock:
            if role not in self._open:
                self._open[role] = self._opened(role)
            return self._open[role]

    def account(self, name: str) -> Prober:
        """The probe with this service account, which ``meshready.toml`` must list (``probe_service_accounts``).

        Raises:
            ProbeError: with one sentence, where the account is not listed or its probe could not be had.
        """
        return self[account_role(name)]

    def close(self) -> None:
        """End all conversations."""
        for prober in self._open.values():
            prober.close()

    def _opened(self, role: str) -> Prober:
        if isinstance(self._outcome, Trouble):
            raise ProbeError(self._outcome.sentence)
        guest = self._outcome.pod(role)
        if isinstance(guest, Trouble):
            raise ProbeError(guest.sentence)
        if self._outcome.without_exec is None:
            try:
                explain = functools.partial(_fate, self._cluster, guest)
                return Session.open(self._cluster, guest.namespace, guest.name, pod.AGENT, Deadline(10.0), explain=explain)
            except ProbeError as error:
                if not error.forbidden:
                    raise
        if self._create is None:
            raise ProbeError(f"nothing may be executed in {guest.namespace}/{guest.name}, and only the owner of a run makes Jobs")
        return self._job(role)

    def _job(self, role: str) -> JobSession:
        """The same questions as a Job, for clusters where nothing may be executed in pods."""
        assert self._create is not None
        injection = pod.Injection.NO if role in (OUTSIDE, ELSEWHERE) else pod.Injection.AS_NAMESPACE
        account = role.removeprefix("as-") if role.startswith("as-") else ""
        return JobSession(self._cluster, self._run, role, injection=injection, create=self._create, account=account)


def _fate(cluster: Cluster, guest: GuestPod) -> str:
    """What happened to a probe whose conversation broke: evicted, deleted, crashed; empty where nothing did."""
    found = inspect(cluster, guest)
    return found.sentence if found else ""


def want(folder: Path) -> None:
    """Ask the owner for probes, from any process of the run."""
    (folder / _WANTED).touch()


def outcome(folder: Path, seconds: float, waiting: Callable[[float], None]) -> Outcome:
    """What came of the guests; waits for the owner at most so long, and tells ``waiting`` how many seconds already."""
    found = handover.read(folder / _READY, cast("type[Outcome]", Outcome), seconds, waiting)
    return (
        found
        if isinstance(found, Ready | Trouble)
        else Trouble(reason=Reason.NOT_READY, sentence=f"the probes were not ready within {seconds:g} s")
    )


def seen(folder: Path, seconds: float, waiting: Callable[[float], None]) -> Seen:
    """What the probes saw; waits for the owner at most so long, and tells ``waiting`` how many seconds already."""
    found = handover.read(folder / _SEEN, Seen, seconds, waiting)
    return found if found is not None else Seen(trouble=f"the probes had no answer within {seconds:g} s")
