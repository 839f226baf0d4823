"""Which inbound ports of a pod the redirection takes into its sidecar: a port left out takes plaintext, whatever the mode.

From Istio's injection template and tools/istio-iptables/pkg/capture/run.go. The arguments of ``istio-init`` (or, with
istio-cni, of ``istio-validation``) are what really happened to a running pod; annotations and the injector's defaults tell
it of a template, and of a pod whose init container was renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_meshready.cluster.objects import Container, Pod, PodTemplate
from pytest_meshready.cluster.snapshot import InjectorConfig
from pytest_meshready.istio.dataplane import proxies

#: Ports of Istio's own agent and Envoy in a pod: probes, metrics, administration, listeners. They serve no application.
ISTIO_PORTS = frozenset({15000, 15001, 15002, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090})

INCLUDE = "traffic.sidecar.istio.io/includeInboundPorts"
EXCLUDE = "traffic.sidecar.istio.io/excludeInboundPorts"
STATUS_PORT = "status.sidecar.istio.io/port"
INTERCEPTION = "sidecar.istio.io/interceptionMode"

_SETUP = ("istio-init", "istio-validation")
_FLAGS = {
    "-b": INCLUDE,
    "--istio-inbound-ports": INCLUDE,
    "-d": EXCLUDE,
    "--istio-local-exclude-ports": EXCLUDE,
    "-m": INTERCEPTION,
    "--istio-inbound-interception-mode": INTERCEPTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What of a pod's inbound traffic goes through its sidecar.

    ``included`` is None where all ports are; ``excluded`` counts only then. ``annotated`` are the annotations of the pod
    that say so, the others came with the injector.
    """

    redirected: bool
    included: frozenset[int] | None
    excluded: frozenset[int]
    annotated: frozenset[str]

    def gap(self, port: int) -> str:
        """Why a port passes the sidecar by, as a clause; empty where it does not."""
        if not self.redirected:
            return f"{INTERCEPTION}: NONE redirects nothing to the sidecar"
        if self.included is not None:
            return "" if port in self.included else f"{self._source(INCLUDE)} does not list it"
        return f"{self._source(EXCLUDE)} lists it" if port in self.excluded else ""

    @property
    def left_out(self) -> frozenset[int]:
        """The ports that are named as not for the sidecar, less Istio's own."""
        return self.excluded - ISTIO_PORTS if self.redirected and self.included is None else frozenset()

    def _source(self, key: str) -> str:
        if key in self.annotated or (key == EXCLUDE and STATUS_PORT in self.annotated):
            return f"the annotation {key}"
        return f"{key.partition('/')[2]} of the injector"


def capture(pod: Pod | PodTemplate, injector: InjectorConfig | None) -> Capture:
    """What the redirection of a pod does, or would do once it is injected.

    Args:
        pod: the pod; of a template what its annotations and the injector say.
        injector: the injector's defaults; Istio's own where it is not known.
    """
    annotations = pod.metadata.annotations
    said = _said(pod)
    include = said.get(INCLUDE, annotations.get(INCLUDE, injector.include_inbound_ports if injector else "*")).strip()
    exclude = said.get(EXCLUDE, annotations.get(EXCLUDE, injector.exclude_inbound_ports if injector else ""))
    interception = said.get(INTERCEPTION, annotations.get(INTERCEPTION, _environment(pod)))
    return Capture(
        redirected=interception != "NONE",
        included=None if include == "*" else _ports(include),
        excluded=_ports(exclude) | _ports(annotations.get(STATUS_PORT, "")) | {15020, 15021, 15090},
        annotated=frozenset(annotations) & {INCLUDE, EXCLUDE, STATUS_PORT, INTERCEPTION},
    )


def _said(pod: Pod | PodTemplate) -> Mapping[str, str]:
    """The arguments of the container that redirects or checks the redirection, by the annotation of the same meaning."""
    setup = next((container for container in pod.spec.init_containers if container.name in _SETUP), Container())
    found: dict[str, str] = {}
    for place, argument in enumerate(setup.args):
        flag, equals, value = argument.partition("=")
        if flag in _FLAGS:
            found[_FLAGS[flag]] = value if equals else next(iter(setup.args[place + 1 : place + 2]), "")
    return found


def _environment(pod: Pod | PodTemplate) -> str:
    """The interception mode by which the pod's proxy was set up; empty where it does not say."""
    variables = (variable for container in proxies(pod) for variable in container.env)
    return next((variable.value for variable in variables if variable.name == "ISTIO_META_INTERCEPTION_MODE"), "")


def _ports(text: str) -> frozenset[int]:
    words = (word.strip() for word in text.split(","))
    return frozenset(int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 5)
