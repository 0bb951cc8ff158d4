"""Apache's mod_ssl: its error log, with `LogLevel ssl:info`.

A chain that is not accepted is told with its certificate; other failures in two lines, of one thread.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from fleet.core.causes import Cause, of_reason, of_verify_code
from fleet.core.log_lines import Finding, moment, shown_address, shown_serial

_LINE = re.compile(
    r"\[(\w{3} \w{3} \d\d \d\d:\d\d:\d\d)(?:\.\d+)? (\d{4})\] \[[\w:]+\] \[pid (\d+(?::tid \d+)?)\] (.*)",
    re.ASCII,
)
_CLIENT = re.compile(r"(?:\(\d+\)[^\[\]]{0,80}: )?\[client ([0-9A-Fa-f:.%\[\]]+)\] (AH\d{5}): (.*)", re.ASCII)
_VERIFY = re.compile(r"Certificate Verification: Error \((\d{1,4})\): ", re.ASCII)
# The names are the client's words, the serial number is not: it is sought from the end.
_SERIAL = re.compile(
    r".* / serial: ([0-9A-Fa-f]{1,40}) / notbefore: [\w: ]{1,40} / notafter: [\w: ]{1,40}\]$", re.ASCII
)
_LIBRARY = re.compile(r"SSL Library Error: error:[0-9A-F]+:[^:]*:[^:]*:(.*)", re.ASCII)
_MOST_THREADS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failing:
    """A handshake of a thread that has failed, whose reason comes in its next line."""

    address: str
    is_told: bool


class ApacheReader:
    """Remembers of each thread whose handshake failed."""

    def __init__(self) -> None:
        self._failing: OrderedDict[str, _Failing] = OrderedDict()

    def feed(self, line: str) -> Finding | None:
        """Return the refusal that a line completes."""
        found = _LINE.match(line)
        if found is None:
            return None
        at, thread, text = moment(f"{found[1]} {found[2]}", "%a %b %d %H:%M:%S %Y"), found[3], found[4]
        if (reason := _LIBRARY.match(text)) is not None:
            return self._explained(thread, reason[1], at)
        client = _CLIENT.match(text)
        if client is None:
            return None
        return self._of_client(thread, shown_address(client[1]), (client[2], client[3]), at)

    def _of_client(
        self, thread: str, address: str, said: tuple[str, str], at: datetime | None
    ) -> Finding | None:
        match said:
            case ("AH02276", text):
                self._note(thread, _Failing(address=address, is_told=True))
                return _verification(text, address, at)
            case ("AH02008" | "AH01996", _):
                before = self._failing.get(thread)
                is_told = before is not None and before.is_told and before.address == address
                self._note(thread, _Failing(address=address, is_told=is_told))
                return None
            case ("AH02006" | "AH02007", _):
                return Finding(cause=Cause.ABORTED, at=at, address=address)
            case ("AH02261", _):  # a renegotiation that failed: its reason follows
                self._note(thread, _Failing(address=address, is_told=False))
                return None
            case _:
                return None

    def _explained(self, thread: str, reason: str, at: datetime | None) -> Finding | None:
        failing = self._failing.pop(thread, None)
        if failing is None or failing.is_told:
            return None
        return Finding(cause=of_reason(reason), at=at, address=failing.address)

    def _note(self, thread: str, failing: _Failing) -> None:
        self._failing[thread] = failing
        self._failing.move_to_end(thread)
        if len(self._failing) > _MOST_THREADS:
            self._failing.popitem(last=False)


def _verification(text: str, address: str, at: datetime | None) -> Finding:
    code, serial = _VERIFY.match(text), _SERIAL.match(text)
    subject, issuer, _ = text.partition("[subject: ")[2].partition(" / issuer: ")
    return Finding(
        cause=Cause.NOT_VERIFIED if code is None else of_verify_code(int(code[1])),
        at=at,
        address=address,
        serial="" if serial is None else shown_serial(serial[1]),
        subject=subject if issuer else "",
    )
