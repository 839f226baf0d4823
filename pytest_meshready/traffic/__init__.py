"""Traffic for tests: one request at a time from a probe pod to a target, in the words of HTTP and TLS."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from urllib.parse import urlsplit

from pytest_meshready.observing import INSIDE, OUTSIDE
from pytest_meshready.probes.certificates import Certificate, SpiffeId, parse
from pytest_meshready.probes.messages import Answer, Ask, Op
from pytest_meshready.probing import Probes
from pytest_meshready.waiting import Deadline

__all__ = ["Handshake", "Traffic"]

#: Seconds for one request with its way to the probe and back.
_PATIENCE = 15.0


class Handshake:
    """A TLS handshake: the answer, and who showed itself in it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.chain: tuple[Certificate, ...] = parse(answer.certificate_chain)

    @property
    def identity(self) -> SpiffeId | None:
        """The peer's SPIFFE identity; None where it showed no certificate of the mesh."""
        return self.chain[0].spiffe if self.chain else None


class Traffic:
    """Sends from the probes of the run. GET only, below any rate that matters, with a User-Agent that names this project."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._numbers = itertools.count(1)

    def get(self, url: str, *, probe: str = INSIDE, headers: Mapping[str, str] | None = None) -> Answer:
        """One GET; the answer has ``status``, ``headers``, ``body``, ``seconds``, and ``outcome`` where there is no status.

        Args:
            url: ``http://orders.payments:8080/healthz``; with ``https`` the certificate is noted, not verified.
            probe: the role of the probe that sends it.
            headers: more headers.

        Raises:
            ValueError: where the address is none.
            ProbeError: where there is no such probe.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of the form http://orders.payments:8080/healthz")
        tls = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        ask = Ask(
            id=str(next(self._numbers)),
            op=Op.HTTP,
            host=parts.hostname,
            port=parts.port or (443 if tls else 80),
            path=path,
            headers=tuple((headers or {}).items()),
            tls=tls,
            server_name=parts.hostname if tls else "",
        )
        return self._one(probe, ask)

    def handshake(self, target: str, *, probe: str = OUTSIDE, alpn: tuple[str, ...] = ("istio",), server_name: str = "") -> Handshake:
        """A TLS handshake with ``host:port`` in which nothing is written.

        Raises:
            ValueError: where the target is none.
            ProbeError: where there is no such probe.
        """
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{target!r} is no target of the form ledger.payments:8080")
        ask = Ask(id=str(next(self._numbers)), op=Op.TLS, host=host, port=int(port), alpn=alpn, server_name=server_name)
        return Handshake(self._one(probe, ask))

    def _one(self, probe: str, ask: Ask) -> Answer:
        return self._probes[probe].ask([ask], Deadline(_PATIENCE))[ask.id]
