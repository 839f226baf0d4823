"""The fixtures, from what the user said to what was seen: each is a place where a team can put its own word.

``mesh_settings`` -> ``mesh_cluster`` -> ``mesh_snapshot`` -> ``mesh_check``. Overriding one in the rootdir's conftest.py, or
as a method of a class, changes what every check below it sees. Heavy modules are imported inside the fixtures, because
this module is loaded in every pytest run of the environment (performance.md 1.2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_meshready.checks import Check
    from pytest_meshready.cluster.client import Cluster
    from pytest_meshready.cluster.snapshot import Snapshot
    from pytest_meshready.probing import Probes
    from pytest_meshready.run import Run, Wire
    from pytest_meshready.settings import Settings
    from pytest_meshready.traffic import Traffic


def _run(request: pytest.FixtureRequest) -> Run:
    """The run of this session.

    Raises:
        pytest.UsageError: through pytest.fail, where no run was asked for.
    """
    from pytest_meshready.run import RUN

    run = request.config.stash.get(RUN, None)
    if run is None:
        pytest.fail(
            f"the fixture {request.fixturename!r} needs to know which namespace to look at: "
            "run pytest with --mesh-namespace=NAMESPACE, or with --mesh-snapshot=FILE for a saved one",
            pytrace=False,
        )
    return run


@pytest.fixture(scope="session")
def mesh_settings(request: pytest.FixtureRequest) -> Settings:
    """What the user said: command line and ``meshready.toml``, frozen.

    Example::

        def test_we_run_against_staging(mesh_settings):
            assert mesh_settings.namespace == "payments"
    """
    run = _run(request)
    return run.settings if run.settings.namespace else replace(run.settings, namespace=run.snapshot().namespace)


@pytest.fixture(scope="session")
def mesh_cluster(request: pytest.FixtureRequest) -> Cluster:
    """The API server of the run, for reading: ``mesh_cluster.get(path)``; every request has a deadline.

    Skips where the run replays a saved snapshot, because there is no cluster then.

    Example::

        def test_api_server_is_alive(mesh_cluster):
            assert mesh_cluster.get("/livez").body == b"ok"
    """
    run = _run(request)
    if run.settings.snapshot is not None:
        pytest.skip("there is no cluster: this run replays a saved snapshot (--mesh-snapshot)")
    if run.settings.manifests is not None:
        pytest.skip("there is no cluster: this run judges manifests (--mesh-manifests)")
    return run.cluster()


@pytest.fixture(scope="session")
def mesh_snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """What was seen of the cluster: taken once per run, the same for all xdist workers, never changed.

    Ask ``mesh_snapshot.unread("pods")`` before trusting an empty list: without the right to list, it is empty too.

    Example::

        def test_every_pod_has_our_label(mesh_snapshot):
            pods = [pod for pod in mesh_snapshot.pods if pod.metadata.namespace == mesh_snapshot.namespace]
            assert pods and all("team" in pod.metadata.labels for pod in pods)
    """
    return _run(request).snapshot()


@pytest.fixture(scope="session")
def mesh_wire(request: pytest.FixtureRequest) -> Wire:
    """What the probes of this run saw of every port, for checks: ``mesh_wire.judge(rule)``; None where the run asks no wire.

    The probes are made once per run, and asked once; the first check that needs their answers waits for them.

    Example::

        mesh_check(static=mtls.strict_everywhere(mesh_snapshot), live=mesh_wire.judge(wire_lines.strict_everywhere))
    """
    return _run(request).wire


@pytest.fixture(scope="session")
def mesh_probe(request: pytest.FixtureRequest) -> Probes:
    """The probe pods of this run: ``mesh_probe["inside"]``, ``["outside"]``, ``["elsewhere"]``, ``mesh_probe.account("orders")``.

    Skips where the run may not create pods (``--mesh-read-only``) or replays a saved snapshot.

    Example::

        def test_nobody_outside_gets_in(mesh_probe):
            ask = Ask(id="one", op=Op.HTTP, host="ledger.payments", port=8080, path="/healthz")
            assert mesh_probe["outside"].ask([ask], Deadline(10.0))["one"].outcome is Outcome.RESET
    """
    run = _run(request)
    if not run.looks_live:
        pytest.skip(
            "this run makes no probes: it is read-only (--mesh-read-only), replays a saved snapshot (--mesh-snapshot) "
            "or judges manifests (--mesh-manifests)"
        )
    return run.probes


@pytest.fixture(scope="session")
def mesh_traffic(mesh_probe: Probes) -> Traffic:
    """Requests from a probe to a target, with the answer's status, latency, headers, and the peer's identity.

    Example::

        def test_only_orders_may_read_the_ledger(mesh_traffic):
            assert mesh_traffic.get("http://ledger.payments:8080/", probe="inside").status == 403
            assert mesh_traffic.handshake("ledger.payments:8080").identity.service_account == "ledger"
    """
    from pytest_meshready.traffic import Traffic

    return Traffic(mesh_probe)


@pytest.fixture
def mesh_check(request: pytest.FixtureRequest) -> Check:
    """Decides the lines of the test's ``mesh_item`` mark from judgements, and ends the test with their status.

    Example::

        @pytest.mark.mesh_item("4.2.1")
        def test_exactly_one_sidecar(self, mesh_check, mesh_snapshot):
            mesh_check(static=injection.exactly_one_sidecar(mesh_snapshot))
    """
    from pytest_meshready.checks import Check

    return Check(_run(request), request.node)
