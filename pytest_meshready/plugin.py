"""pytest's door: options, markers and registration, nothing else.

This module is imported in every pytest run of the environment, mesh or no mesh. It imports neither a client library nor
anything of ours that does; without ``--mesh-namespace`` it registers options, markers and fixtures and is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: (option, destination, what argparse needs besides). The help texts are the reference that users read.
_TEXT: dict[str, object] = {"action": "store", "default": None}
_FLAG: dict[str, object] = {"action": "store_true", "default": False}
OPTIONS: tuple[tuple[str, dict[str, object]], ...] = (
    ("--mesh-namespace", _TEXT | {"metavar": "NS", "help": "the namespace to accept; switches the checklist on"}),
    ("--mesh-kubeconfig", _TEXT | {"metavar": "FILE", "help": "kubeconfig of the cluster (default: as kubectl, then in-cluster)"}),
    ("--mesh-context", _TEXT | {"metavar": "NAME", "help": "context of the kubeconfig (default: its current context)"}),
    ("--mesh-istio-namespace", _TEXT | {"metavar": "NS", "help": "namespace of the control plane (default: found)"}),
    ("--mesh-revision", _TEXT | {"metavar": "REV", "help": "revision of the control plane (default: found)"}),
    (
        "--mesh-phase",
        _TEXT | {"metavar": "PHASE", "help": "phase of the rollout: pre, permissive, strict, expand, hardened, golive (default: guessed)"},
    ),
    ("--mesh-items", _TEXT | {"metavar": "IDS", "help": "only these lines, subsections or sections: 4.2,7"}),
    ("--mesh-checklist", _FLAG | {"help": "run the checklist beside explicit paths"}),
    ("--mesh-config", _TEXT | {"metavar": "FILE", "help": "meshready.toml (default: meshready.toml or [tool.meshready] at the rootdir)"}),
    (
        "--mesh-versions-file",
        _TEXT | {"metavar": "FILE", "help": "newer rows for the table of Istio's releases, as TOML (default: the table of this version)"},
    ),
    ("--mesh-snapshot", _TEXT | {"metavar": "FILE", "help": "replay a saved snapshot instead of reading a cluster"}),
    (
        "--mesh-manifests",
        _TEXT | {"metavar": "PATH", "help": "judge manifests instead of a cluster: a folder, a file, or - for standard input"},
    ),
    ("--mesh-save-snapshot", _TEXT | {"metavar": "FILE", "help": "save what was seen of the cluster"}),
    ("--mesh-read-only", _FLAG | {"help": "create and execute nothing in the cluster"}),
    ("--mesh-plan", _FLAG | {"help": "show what would be read, created and sent, and the rights that it needs; touch nothing"}),
    (
        "--mesh-rbac",
        _TEXT | {"metavar": "FILE", "help": "write the Role and ClusterRole for exactly this selection; - prints them and nothing else"},
    ),
    ("--mesh-go-live", _FLAG | {"help": "the final approval: demands a phase and the whole checklist; exit 0 means READY"}),
    ("--mesh-probe-image", _TEXT | {"metavar": "IMAGE", "help": "image of the probe pods: any with python3 (default python:3-alpine)"}),
    ("--mesh-probe-namespace", _TEXT | {"metavar": "NS", "help": "a second namespace for a probe outside the mesh (default: none)"}),
    ("--mesh-keep", _FLAG | {"help": "leave probe pods and everything else of this run in the cluster; they still end by themselves"}),
    (
        "--mesh-sweep",
        {
            "metavar": "RUN",
            "nargs": "?",
            "const": "",
            "default": None,
            "help": "remove what runs that are over left in the namespace, then end; --mesh-sweep=RUN: of this run alone",
        },
    ),
    (
        "--mesh-deadline",
        _TEXT
        | {
            "metavar": "SECONDS",
            "help": "bound for each wait: reading the cluster as a whole, probe pods until they are ready (default 60)",
        },
    ),
    ("--mesh-report", _TEXT | {"metavar": "DIR", "help": "write readiness.json, readiness.md and readiness.html there"}),
)

#: Options that mean a run: without a namespace (or a snapshot, which has one) they would silently do nothing.
_NEED_A_RUN = (
    "mesh_checklist",
    "mesh_plan",
    "mesh_rbac",
    "mesh_go_live",
    "mesh_items",
    "mesh_save_snapshot",
    "mesh_report",
    "mesh_sweep",
    "mesh_manifests",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line; every name begins with ``--mesh``."""
    group = parser.getgroup("meshready", "Istio production readiness (meshready)")
    for name, settings in OPTIONS:
        group.addoption(name, **settings)


def wanted(config: pytest.Config) -> bool:
    """Whether this pytest run looks at a mesh at all."""
    return bool(config.getoption("mesh_namespace") or config.getoption("mesh_snapshot"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str]) -> None:
    """An option whose value is optional takes it with ``=`` only, so that it never swallows a path."""
    args[:] = [f"{arg}=" if arg == "--mesh-sweep" else arg for arg in args]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """``--mesh-plan``, ``--mesh-rbac`` and ``--mesh-sweep`` do their work without running anything, as ``--fixtures`` does."""
    asked = config.getoption("mesh_plan") or config.getoption("mesh_rbac") or config.getoption("mesh_sweep") is not None
    if not asked or not wanted(config):
        return None
    if config.getoption("mesh_sweep") is not None:
        from pytest_meshready import sweeping

        return sweeping.main(config)
    from pytest_meshready import plan

    return plan.main(config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Markers and fixtures always; hooks that do something only where a namespace was given."""
    config.addinivalue_line(
        "markers",
        "mesh_item(*ids, part=None): this test decides, or helps to decide, these lines of the Istio rollout checklist; "
        'part="static", "live", "metrics" or "attest" lets it stand for that part of the line',
    )
    config.pluginmanager.import_plugin("pytest_meshready.fixtures")
    if wanted(config):
        from pytest_meshready.run import start

        start(config)
        return
    idle = [name for name in _NEED_A_RUN if config.getoption(name) not in (None, False)]
    if idle:
        option = f"--{idle[0].replace('_', '-')}"
        raise pytest.UsageError(f"{option} needs to know which namespace to look at: add --mesh-namespace=NAMESPACE")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run, if there is one."""
    finish: Callable[[], None] | None = config.stash.get(FINISH, None)
    if finish is not None:
        finish()


#: What ends the run; set by `pytest_meshready.run.start`.
FINISH = pytest.StashKey["Callable[[], None]"]()
