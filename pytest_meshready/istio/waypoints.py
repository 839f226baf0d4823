"""Which Services of an ambient namespace stand behind a waypoint: only there anything reads their requests (checks.md 4).

Ztunnel carries connections. Timeouts, retries, routes by path and the settings of DestinationRules hold in an ambient mesh only
at a waypoint (Kiali's KIA1109 and its like). Reproduced from istiod's ``fetchWaypointForTarget`` in pilot/pkg/serviceregistry/
kube/controller/ambient/waypoints.go: the label of the Service decides, else that of its namespace; ``none`` means none.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_meshready.cluster.snapshot import Snapshot, in_namespace
from pytest_meshready.istio.components import held_namespaces
from pytest_meshready.istio.dataplane import DataPlane, counted, dataplane_class
from pytest_meshready.istio.injector import MODE
from pytest_meshready.istio.namespaces import mesh_label
from pytest_meshready.results import ObjectRef

#: What `Waypoints` reads.
READS = ("namespaces", "services", "serviceentries", "pods")

#: The labels that put a waypoint before a Service, a ServiceEntry, or all of a namespace.
USE = "istio.io/use-waypoint"
USE_NAMESPACE = "istio.io/use-waypoint-namespace"

_NONE = "none"
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


class Waypoints:
    """The waypoints before the hosts of the run's namespace."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        namespace = snapshot.this_namespace()
        self._labels: Mapping[str, str] = namespace.metadata.labels if namespace else {}
        #: Whether ztunnel carries what is called in the namespace.
        self.ambient = mesh_label(self._labels) == f"{MODE}=ambient"
        services = in_namespace(snapshot.services, snapshot.namespace) if self.ambient else ()
        entries = in_namespace(snapshot.serviceentries, snapshot.namespace) if self.ambient else ()
        self._own = {(item.kind, item.metadata.name): item.metadata.labels for item in services}
        self._own |= {(item.kind, item.metadata.name): item.metadata.labels for item in entries}
        self._running = {
            (pod.metadata.namespace, pod.metadata.labels.get(_GATEWAY_NAME, ""))
            for pod in (snapshot.pods if self.ambient else ())
            if counted(pod) and dataplane_class(pod) is DataPlane.WAYPOINT
        }

    def absent(self, ref: ObjectRef) -> str:
        """Why nothing reads the requests to a Service or a ServiceEntry of the namespace, as a clause.

        Empty where a waypoint does, where each pod has a proxy of its own, and where it is not known.
        """
        if not self.ambient or ref.namespace != self._snapshot.namespace:
            return ""
        own = self._own.get((ref.kind, ref.name), {})
        said = own if USE in own else self._labels
        name, place = said.get(USE, _NONE), said.get(USE_NAMESPACE) or ref.namespace
        if name in (_NONE, ""):
            return f"label {USE}: {_NONE} takes it out" if USE in own else f"neither it nor its namespace has the label {USE}"
        unknown = place not in held_namespaces(self._snapshot) or bool(self._snapshot.unread("pods"))
        return "" if unknown or (place, name) in self._running else f"its waypoint {place}/{name} has no pods"
