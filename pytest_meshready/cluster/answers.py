"""What the API server answers, and what is said where it does not: one sentence, with the server's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from pytest_meshready.cluster.kubeconfig import ClusterError
from pytest_meshready.waiting import GaveUp

#: Characters of a server's message that a sentence quotes, and that are kept of it at all.
LONGEST_MESSAGE = 300
_LONGEST = 4000


class ReadError(ClusterError):
    """A request that gave no data.

    ``status`` is the HTTP status, 0 without an answer. ``pause`` is how long to wait at least before repeating it, None
    where that is pointless. ``lasted`` tells that it was repeated until the deadline; ``everywhere`` that every other
    request would meet the same: nobody answers, or the credentials are not accepted. ``hint`` is what to try. ``said`` is
    the server's own message, and ``cause`` its word for it (``AlreadyExists``); both are empty without an answer.
    """

    def __init__(
        self,
        text: str,
        *,
        asked: str,
        status: int = 0,
        pause: float | None = None,
        everywhere: bool = False,
        lasted: bool = False,
        hint: str = "",
        said: str = "",
        cause: str = "",
    ) -> None:
        self.text = text
        self.asked = asked
        self.status = status
        self.pause = pause
        self.everywhere = everywhere
        self.lasted = lasted
        self.hint = hint
        self.said = said
        self.cause = cause
        super().__init__(self.about(asked))

    def about(self, asked: str) -> str:
        """The sentence with other words for what was asked: ``list pods in payments`` instead of the path."""
        return self.text.replace("{asked}", asked) + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API server answered: the body, and its own clock (RFC 3339, UTC; empty where it did not say)."""

    body: bytes
    status: int
    date: str

    def json(self) -> Any:  # noqa: ANN401 - JSON of any kind
        """The body as plain Python data."""
        return msgspec.json.decode(self.body)


def lasting(gave_up: GaveUp) -> ReadError:
    """The failure of the last try, with how long it was tried."""
    last = gave_up.last
    assert isinstance(last, ReadError)
    if gave_up.asked and gave_up.asked >= gave_up.seconds:
        more = f"; it asks to wait {gave_up.asked:g} s, the deadline is {seconds(gave_up.seconds)} s"
    else:
        more = f", tried {gave_up.tries} times until the deadline of {seconds(gave_up.seconds)} s" if gave_up.tries > 1 else ""
    return ReadError(
        f"{last.text}{more}",
        asked=last.asked,
        status=last.status,
        everywhere=last.everywhere,
        lasted=True,
        hint=last.hint,
        said=last.said,
        cause=last.cause,
    )


def seconds(value: float) -> str:
    """Seconds for a sentence: ``5``, ``0.5``."""
    return f"{value:.1f}".removesuffix(".0")


class Status(msgspec.Struct):
    """Kubernetes' own kind for an answer that is no object, as far as sentences need it."""

    message: str | None = ""
    reason: str | None = ""


#: Built at import, because several threads decode at once (see `pytest_meshready.cluster.decode`).
_DECODER = msgspec.json.Decoder(Status)


def told(body: bytes) -> Status:
    """The server's own words; none where the answer is not the server's."""
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError:
        return Status()


def message(status: int, headers: Mapping[str, str], body: bytes, told: Status) -> str:
    """The message on one line; HTML of a proxy in between says nothing that helps."""
    plain = headers.get("Content-Type", "").startswith("text/plain")
    said = told.message or (body.decode(errors="replace") if plain else "")
    line = " ".join(said.split())[:_LONGEST]
    if line:
        return line
    import http

    return http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "no message"


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0 where it does not say, or says a date."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def date(value: str | None) -> str:
    """An HTTP date as RFC 3339."""
    try:
        return parsedate_to_datetime(value).strftime("%Y-%m-%dT%H:%M:%SZ") if value else ""
    except ValueError:
        return ""


def innermost(error: BaseException) -> str:
    """Why there was no answer, in the operating system's words."""
    found = error
    while (deeper := found.__cause__ or found.__context__) is not None:
        found = deeper
    verify = getattr(found, "verify_message", "")
    strerror = found.strerror if isinstance(found, OSError) else ""
    if isinstance(found, TimeoutError):
        return "the connection attempt was not answered"
    return str(verify or strerror or type(found).__name__)
