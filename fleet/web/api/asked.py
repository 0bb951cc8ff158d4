"""One request of an operator: who asks, and the members of path, query and body, each with its bounds.

Nothing that it does not know is passed over: an unknown parameter or member is refused, so that a slip of
the pen in a filter never widens what an act is about.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from aiohttp import web

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.identity import Identity, parse_device_id, parse_domain, parse_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import NotFoundError
from fleet.ra.context import Context
from fleet.web.api.who import Operator

_Word = TypeVar("_Word", bound=StrEnum)
_Item = TypeVar("_Item")

MAX_FILE_BYTES = 32 * 1024 * 1024
"""A list of devices; the use case counts them."""
MAX_PAGE = 1000
_LONGEST = 256
_LONGEST_CERTIFICATE = 4096


class Query:
    """The parameters of a query; each method takes one, checks it, and returns it typed."""

    __slots__ = ("_fields",)

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._fields = Fields(parameters)

    def text(self, name: str) -> str:
        """Return a parameter, or the empty text."""
        return self._fields.text(name, longest=_LONGEST) if name in self._fields else ""

    def long_text(self, name: str) -> str:
        """Return a parameter that may hold a certificate, or the empty text."""
        return self._fields.text(name, longest=_LONGEST_CERTIFICATE) if name in self._fields else ""

    def domain(self, name: str) -> str:
        """Return a domain's name, or the empty text."""
        return parse_domain(self.text(name)) if name in self._fields else ""

    def word(self, name: str, *, of: type[_Word]) -> _Word | None:
        """Return one of the words of an enumeration, or None."""
        return self._fields.word(name, of=of) if name in self._fields else None

    def time(self, name: str) -> datetime | None:
        """Return a time, or None."""
        return self._fields.time(name) if name in self._fields else None

    def number(self, name: str, *, default: int, lowest: int, highest: int) -> int:
        """Return a number in a closed range, or the default."""
        text = self.text(name)
        if not text:
            return default
        if text.removeprefix("-").isdecimal() and text.isascii() and lowest <= int(text) <= highest:
            return int(text)
        raise MalformedMessageError(f"{name} must be a number from {lowest} to {highest}")

    def limit(self) -> int:
        """Return how many items a page may have."""
        return self.number("limit", default=100, lowest=1, highest=MAX_PAGE)


class Row(Protocol):
    """What the table says of the route that was called."""

    @property
    def parameters(self) -> tuple[str, ...]: ...

    @property
    def body(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that passed the gate."""

    context: Context
    known_operator: Operator | None
    """None on a route that is open to everybody."""
    request: web.Request
    content: bytes
    """The body, read whole."""
    route: Row

    @property
    def operator(self) -> Operator:
        """Who asks; on an open route nobody may act."""
        assert self.known_operator is not None  # noqa: S101 - the table's tests hold open routes to it
        return self.known_operator

    @property
    def actor(self) -> str:
        """How the audit trail calls the operator."""
        return f"operator:{self.operator.name}"

    def query(self) -> Query:
        """Return the parameters, of which the table's may be there, each once."""
        given = self.request.query
        if len(set(given)) != len(given):
            raise MalformedMessageError("a parameter stands twice in the query")
        _refuse_unknown(set(given), self.route.parameters)
        return Query(given)

    def body(self) -> Fields:
        """Return the members of the body, of which the table's may be there."""
        fields = parse_object(self.content)
        _refuse_unknown(fields.names(), self.route.body)
        return fields

    def file(self) -> str:
        """Return a body that is a text file."""
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessageError("the file is not text in UTF-8") from error

    def identity(self) -> Identity:
        """Return the device that the path names."""
        found = self.request.match_info
        return self.known(
            Identity(domain=parse_domain(found["domain"]), device_id=parse_device_id(found["device_id"]))
        )

    def known(self, identity: Identity) -> Identity:
        """Return an identity in a domain that this fleet has."""
        return Identity(domain=self.domain(identity.domain), device_id=identity.device_id)

    def domain(self, name: str) -> str:
        """Return the name of a domain that this fleet has.

        Raises:
            NotFoundError: it has no such domain.
        """
        names = [domain.name for domain in self.context.config.domains]
        if name not in names:
            raise NotFoundError(f"there is no domain {name!r}", hint=f"this fleet has {', '.join(names)}")
        return name

    def serial(self) -> str:
        """Return the certificate that the path names."""
        return parse_serial(self.request.match_info["serial"])


def flag_of(body: Fields, name: str) -> bool:
    """Return a member that need not be there: no, then."""
    return name in body and body.flag(name)


def page_of(
    items: Iterable[_Item], query: Query, *, key: Callable[[_Item], str]
) -> tuple[list[_Item], str | None]:
    """Return a page of a list that is read whole, in the order of its keys, and the cursor of the next."""
    after, limit = query.text("after"), query.limit()
    left = sorted((item for item in items if key(item) > after), key=key)
    return left[:limit], key(left[limit - 1]) if len(left) > limit else None


def _refuse_unknown(given: set[str] | frozenset[str], known: tuple[str, ...]) -> None:
    if strange := sorted(given - set(known)):
        expected = ", ".join(known) or "none"
        raise MalformedMessageError(f"{strange[0][:64]!a} is not known here; known: {expected}")
