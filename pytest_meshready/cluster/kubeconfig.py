"""Which cluster: the kubeconfig files, and the context in them, chosen as kubectl chooses them.

This is read before any client library is imported and before any request, so that a context that is not allowed is refused
untouched, and so that every mistake has a sentence of its own. What is read here decides which context is used; the
credentials themselves are loaded by the official client (`pytest_meshready.cluster.client`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The name of the context where the run is a pod of the cluster and there is no kubeconfig.
IN_CLUSTER = "in-cluster"

#: Where Kubernetes puts the credentials of a pod's service account.
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class ClusterError(Exception):
    """The cluster cannot be used; the message is one sentence for the user: what was found, what was wanted, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """The chosen context. ``files`` is empty in a pod; ``plugin`` is the command that gives the credentials, if any does.

    ``option`` is the file as ``--mesh-kubeconfig`` gave it. Nothing secret is in here.
    """

    files: tuple[Path, ...]
    origin: str
    context: str
    context_names: tuple[str, ...]
    server: str
    plugin: str = ""
    option: str = ""

    @property
    def kubectl(self) -> str:
        """What to type for the same cluster: kubectl and its options."""
        return _kubectl(self.option, self.context) if self.files else "kubectl"


def _kubectl(option: str, context: str) -> str:
    return f"kubectl{f' --kubeconfig={option}' if option else ''} --context={context}"


def choose(option: Path | str | None, context: str | None, environ: Mapping[str, str] | None = None) -> Kubeconfig:
    """The cluster that kubectl would talk to, given ``--kubeconfig`` and ``--context``.

    In order: the option, ``KUBECONFIG`` (several files are merged, the first that says something wins), ``~/.kube/config``,
    the service account of the pod.

    Raises:
        ClusterError: with one sentence, where there is none, or it is not well formed.
    """
    environ = os.environ if environ is None else environ
    files, origin = _files(option, environ)
    if not files:
        return _in_cluster(context, environ)
    merged = _Merged(origin, str(option or ""))
    for file in files:
        merged.add(file)
    return merged.chosen(files, context, environ)


def _files(option: Path | str | None, environ: Mapping[str, str]) -> tuple[tuple[Path, ...], str]:
    """The files, and how they were found, as the beginning of a sentence."""
    if option:
        path = Path(option).expanduser()
        if not path.exists():
            raise ClusterError(
                f"--mesh-kubeconfig={option}: there is no such file; give the path of a kubeconfig, "
                "or leave the option out to use KUBECONFIG or ~/.kube/config"
            )
        return (path,), f"--mesh-kubeconfig={option}"
    named = [Path(name).expanduser() for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    if named:
        found = tuple(path for path in named if path.exists())
        if not found:
            raise ClusterError(
                f"KUBECONFIG={os.pathsep.join(map(str, named))} names no file that exists; correct it, or give --mesh-kubeconfig=FILE"
            )
        return found, f"KUBECONFIG={os.pathsep.join(map(str, named))}"
    usual = Path(environ.get("HOME") or Path.home()) / ".kube" / "config"
    return ((usual,), str(usual)) if usual.exists() else ((), "")


def _in_cluster(context: str | None, environ: Mapping[str, str]) -> Kubeconfig:
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port or not SERVICE_ACCOUNT_TOKEN.exists():
        raise ClusterError(
            "no kubeconfig found: KUBECONFIG is not set, ~/.kube/config does not exist, and this is not a pod with a service account; "
            "give --mesh-kubeconfig=FILE (to see what kubectl uses: kubectl config view)"
        )
    if context not in (None, "", IN_CLUSTER):
        raise ClusterError(
            f"--mesh-context={context}: there is no kubeconfig, only the service account of this pod (context {IN_CLUSTER}); "
            "leave --mesh-context out, or give --mesh-kubeconfig=FILE"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Kubeconfig(files=(), origin="the service account of this pod", context=IN_CLUSTER, context_names=(IN_CLUSTER,), server=server)


class _Merged:
    """Several kubeconfig files as one: for every name, and for the current context, the first file that has it wins."""

    def __init__(self, origin: str, option: str) -> None:
        self.origin = origin
        self.option = option
        self.current = ""
        self.named: dict[str, dict[str, tuple[Mapping[str, Any], Path]]] = {"contexts": {}, "clusters": {}, "users": {}}

    def add(self, file: Path) -> None:
        """Read one file."""
        content = _yaml(file, self.origin)
        current = content.get("current-context")
        self.current = self.current or (current if isinstance(current, str) else "")
        for section, known in self.named.items():
            for entry in _entries(content.get(section)):
                inner = entry.get(section.removesuffix("s"))
                known.setdefault(str(entry.get("name")), (inner if isinstance(inner, Mapping) else {}, file))

    def chosen(self, files: tuple[Path, ...], wanted: str | None, environ: Mapping[str, str]) -> Kubeconfig:
        """The context of the option, or the current one, with what it refers to."""
        name = self._context_name(wanted)
        context, _ = self.named["contexts"][name]
        cluster, _ = self._referred("clusters", name, context.get("cluster"))
        server = cluster.get("server")
        if not isinstance(server, str) or not server:
            raise ClusterError(f"{self.origin}: cluster {context.get('cluster')!r} of context {name!r} has no server address")
        plugin = ""
        if context.get("user"):
            user, file = self._referred("users", name, context.get("user"))
            plugin = self._plugin(name, user, file, environ)
        return Kubeconfig(
            files=files,
            origin=self.origin,
            context=name,
            context_names=tuple(self.named["contexts"]),
            server=server.rstrip("/"),
            plugin=plugin,
            option=self.option,
        )

    def _context_name(self, wanted: str | None) -> str:
        names = ", ".join(self.named["contexts"]) or "none"
        if wanted and wanted not in self.named["contexts"]:
            raise ClusterError(
                f"--mesh-context={wanted}: {self.origin} has no such context, it has {names} (see: kubectl config get-contexts)"
            )
        if not wanted and not self.current:
            raise ClusterError(
                f"{self.origin} has no current context; choose one with --mesh-context=NAME, it has {names} "
                "(see: kubectl config get-contexts)"
            )
        if not wanted and self.current not in self.named["contexts"]:
            raise ClusterError(
                f"{self.origin}: its current context {self.current!r} does not exist, it has {names}; give --mesh-context=NAME"
            )
        return wanted or self.current

    def _referred(self, section: str, context: str, name: object) -> tuple[Mapping[str, Any], Path]:
        found = self.named[section].get(str(name))
        if found is None:
            raise ClusterError(
                f"{self.origin}: context {context!r} refers to {section.removesuffix('s')} {name!r}, which is not defined there "
                "(see: kubectl config view)"
            )
        return found

    def _plugin(self, context: str, user: Mapping[str, Any], file: Path, environ: Mapping[str, str]) -> str:
        """The command of an exec credential plugin, which must be there; its arguments may hold secrets and are not kept."""
        settings = user.get("exec")
        if not isinstance(settings, Mapping):
            return ""
        command = settings.get("command")
        if not isinstance(command, str) or not command:
            raise ClusterError(f"{self.origin}: the credential plugin of context {context!r} has no command")
        beside = str(file.absolute().parent / command) if os.sep in command else command
        if shutil.which(beside, path=environ.get("PATH")) is None:
            hint = settings.get("installHint")
            said = f" ({' '.join(hint.split())[:200]})" if isinstance(hint, str) and hint.strip() else ""
            raise ClusterError(
                f"{self.origin}: context {context!r} logs in with the command {command!r}, which is not on the PATH; "
                f"install it{said}, then try: {_kubectl(self.option, context)} auth whoami"
            )
        return command


def _yaml(file: Path, origin: str) -> Mapping[str, Any]:
    import yaml

    at = origin if origin.endswith(str(file)) else f"{origin}: {file}"
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except OSError as error:
        raise ClusterError(f"{at} cannot be read: {error.strerror or type(error).__name__}; give --mesh-kubeconfig=FILE") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)  # the text of the error quotes the file, which holds credentials
        raise ClusterError(f"{at} is not YAML{f' (line {mark.line + 1})' if mark else ''}; wanted a kubeconfig") from None
    if not isinstance(content, Mapping):
        raise ClusterError(f"{at} is no kubeconfig: wanted a mapping with clusters, users and contexts")
    return content


def _entries(section: object) -> Iterable[Mapping[str, Any]]:
    return (entry for entry in section if isinstance(entry, Mapping)) if isinstance(section, list) else ()
