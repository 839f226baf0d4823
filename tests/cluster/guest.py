"""A process that holds guests until a signal ends it, as a run does: ``python -m tests.cluster.guest RUN NAMESPACE``.

It prints ``ready`` when its guests are there, and what is left at the end.
"""

from __future__ import annotations

import sys
import time

from pytest_meshready.cluster import client
from pytest_meshready.interrupts import Interrupts
from pytest_meshready.probes import pod
from pytest_meshready.probes.guests import Guest, Guests, Ready
from pytest_meshready.waiting import Deadlines


def main(run: str, namespace: str) -> int:
    """Hold them for a minute at most."""
    about = pod.Run(id=run, namespace=namespace)
    guest = Guest(role="outside", manifest=pod.probe(about, "outside", injection=pod.Injection.NO))
    cluster = client.connect(None, None, Deadlines())
    guests = Guests(cluster, run, namespace, pods=[guest], objects=[pod.agent(about), pod.service_account(about)])
    interrupts = Interrupts()
    interrupts.install()
    try:
        print("ready" if isinstance(guests.wait(), Ready) else guests.wait(), flush=True)  # noqa: T201 - this is a command
        time.sleep(60)
    except KeyboardInterrupt:
        return 130
    finally:
        left = guests.remove()
        print(f"left: {left.objects} {left.because}", flush=True)  # noqa: T201 - this is a command
        interrupts.restore()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
