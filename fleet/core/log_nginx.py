"""nginx: its error log at level info, or an access log of JSON lines in the format of the how-to.

The error log has cause and address. The access log has the certificate too, but no handshake that failed.
"""

import json
import re
from datetime import datetime

from fleet.core.causes import Cause, of_reason, of_verify_code, of_verify_text
from fleet.core.log_lines import Finding, moment, number_of, shown_address, shown_serial

_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[\w+\] \d+#\d+: (?:\*\d+ )?(.*)", re.ASCII)
_CLIENT = re.compile(r", client: ([0-9A-Fa-f:.]+)", re.ASCII)
_VERIFY = re.compile(r"client SSL certificate verify error: \((\d{1,4}):", re.ASCII)
_LIBRARY = re.compile(r"SSL_do_handshake\(\) failed \(SSL: error:[0-9A-F]+:[^:]*:[^:]*:([^:)]*)", re.ASCII)
_BEGINNINGS = (
    ("client sent no required SSL certificate", Cause.NO_CERTIFICATE),
    ("client sent plain HTTP request to HTTPS port", Cause.PROTOCOL),
    ("client closed connection while SSL handshaking", Cause.ABORTED),
    ("peer closed connection in SSL handshake", Cause.ABORTED),
)
_REFUSED = range(400, 500)


class NginxReader:
    """Each line stands for itself."""

    def feed(self, line: str) -> Finding | None:
        """Return the refusal that a line tells of."""
        return _access(line) if line.startswith("{") else _error(line)


def _error(line: str) -> Finding | None:
    found = _LINE.match(line)
    if found is None:
        return None
    cause = _cause(found[2])
    if cause is None:
        return None
    # What a client sent, such as its request, stands behind its address.
    client = _CLIENT.search(found[2])
    return Finding(
        cause=cause,
        at=moment(found[1], "%Y/%m/%d %H:%M:%S"),
        address="" if client is None else shown_address(client[1]),
    )


def _cause(text: str) -> Cause | None:
    if (code := _VERIFY.match(text)) is not None:
        return of_verify_code(int(code[1]))
    if (reason := _LIBRARY.match(text)) is not None:
        return of_reason(reason[1])
    return next((cause for beginning, cause in _BEGINNINGS if text.startswith(beginning)), None)


def _access(line: str) -> Finding | None:
    try:
        members: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    texts = {str(name): value if isinstance(value, str) else "" for name, value in members.items()}
    cause = _verdict(texts, number_of(members, "status"))
    if cause is None:
        return None
    return Finding(
        cause=cause,
        at=_time(texts.get("time", "")),
        address=shown_address(texts.get("client", "")),
        serial=shown_serial(texts.get("serial", "")),
        subject=texts.get("subject", ""),
    )


def _verdict(texts: dict[str, str], status: int) -> Cause | None:
    """Return the cause behind $ssl_client_verify (ngx_http_ssl_module): NONE, SUCCESS or FAILED:reason."""
    verify = texts.get("verify", "")
    if verify == "NONE":
        return Cause.NO_CERTIFICATE if status in _REFUSED else None
    if not verify.startswith("FAILED:"):
        return None
    cause = of_verify_text(verify.removeprefix("FAILED:"))
    is_its_own = bool(texts.get("subject")) and texts.get("subject") == texts.get("issuer")
    # With ssl_crl nginx asks for the list of a CA before it asks whether it trusts that CA.
    return Cause.SELF_SIGNED if cause is Cause.NO_LIST and is_its_own else cause


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
