"""Releases and experiments of other controllers that change routes or break them: Flagger, Argo, Chaos Mesh, Litmus."""

from __future__ import annotations

from typing import ClassVar

from pytest_meshready.cluster.objects import Metadata, Slim
from pytest_meshready.cluster.objects_entry import Present


class NamedTarget(Slim, frozen=True):
    kind: str = ""
    name: str = ""


class CanarySpec(Slim, frozen=True):
    target_ref: NamedTarget = NamedTarget()
    suspend: bool = False


class CanaryStatus(Slim, frozen=True):
    """``phase`` of Flagger: Progressing, Promoting, Succeeded, Failed ...; ``canary_weight`` in percent."""

    phase: str = ""
    canary_weight: int = 0


class Canary(Slim, frozen=True):
    """Flagger's: a Deployment that is released step by step."""

    kind: ClassVar[str] = "Canary"
    metadata: Metadata = Metadata()
    spec: CanarySpec = CanarySpec()
    status: CanaryStatus = CanaryStatus()


class RolloutStrategy(Slim, frozen=True):
    canary: Present | None = None
    blue_green: Present | None = None


class RolloutSpec(Slim, frozen=True):
    strategy: RolloutStrategy = RolloutStrategy()


class RolloutStatus(Slim, frozen=True):
    phase: str = ""


class Rollout(Slim, frozen=True):
    """Argo's: what it has instead of a Deployment."""

    kind: ClassVar[str] = "Rollout"
    metadata: Metadata = Metadata()
    spec: RolloutSpec = RolloutSpec()
    status: RolloutStatus = RolloutStatus()


class ChaosSelector(Slim, frozen=True):
    """Chaos Mesh's: all pods of some namespaces, or of each namespace some ``pods`` by name; neither: its own namespace."""

    namespaces: tuple[str, ...] = ()
    pods: dict[str, tuple[str, ...]] = {}


class ChaosTarget(Slim, frozen=True):
    """The other end of a broken connection."""

    selector: ChaosSelector = ChaosSelector()


class ChaosApplication(Slim, frozen=True):
    """Litmus' own: the namespace of the application."""

    appns: str = ""


class ExperimentSpec(Slim, frozen=True):
    """``engine_state`` is Litmus' own: ``stop`` ends an engine. Of an HTTPChaos ``target`` is a word."""

    action: str = ""
    engine_state: str = ""
    selector: ChaosSelector = ChaosSelector()
    target: ChaosTarget | str | None = None
    appinfo: ChaosApplication = ChaosApplication()


class Experiment(Slim, frozen=True):
    """A chaos experiment of Chaos Mesh or Litmus; its conditions tell whether it has ended."""

    kind: ClassVar[str] = "Experiment"
    metadata: Metadata = Metadata()
    spec: ExperimentSpec = ExperimentSpec()


class NetworkChaos(Experiment, frozen=True):
    kind: ClassVar[str] = "NetworkChaos"


class HTTPChaos(Experiment, frozen=True):
    kind: ClassVar[str] = "HTTPChaos"


class PodChaos(Experiment, frozen=True):
    kind: ClassVar[str] = "PodChaos"


class StressChaos(Experiment, frozen=True):
    kind: ClassVar[str] = "StressChaos"


class ChaosEngine(Experiment, frozen=True):
    kind: ClassVar[str] = "ChaosEngine"
