"""The audit trail as syslog messages (RFC 5424), one line an entry, for what gathers logs of many machines.

It is for searching. All that a leaf hash is made of stands in the export as JSON lines alone; the hash stands
here, so that an entry is found there again.
"""

import base64
import re
from collections.abc import Iterable

from device_agent.wire.fields import time_text
from fleet.core import trace
from fleet.core.audit import SignedHead
from fleet.store.audit import StoredEntry

_ENTERPRISE = 32473
"""No vendor's, so that it collides with none: the number that RFC 5612 keeps free."""
_LOG_AUDIT = 13
_WARNING, _NOTICE = 4, 5

_NO_NAME = re.compile(r'[^!-~]|[="\]]')
_LONGEST_NAME = 32
_ESCAPED = str.maketrans({'"': r"\"", "\\": r"\\", "]": r"\]"})
# A message is one line, so whatever a reader would break it at is shown by its picture instead.
_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {
    0x7F: 0x2421,
    0x85: 0x2424,
    0x2028: 0x2424,
    0x2029: 0x2424,
}


def entry_message(stored: StoredEntry, *, fleet: str) -> str:
    """Return an entry as a message: what it is about in `entry`, its own details in `details`."""
    entry = stored.entry
    about = (
        ("fleet", fleet),
        ("number", str(stored.number)),
        ("action", entry.action),
        ("actor", entry.actor),
        ("domain", entry.domain),
        ("device_id", entry.device_id),
        ("serial", entry.serial),
        ("leaf_hash", stored.leaf_hash.hex()),
    )
    details = [(_name(name), value) for name, value in entry.details if name != trace.DETAIL]
    data = _element("entry", [member for member in about if member[1]]) + _element("details", details)
    severity = _WARNING if entry.action.endswith(".refused") else _NOTICE
    text = f"{entry.action} by {entry.actor}"
    return _message(severity, time_text(entry.at), _name(entry.action), data=data, text=text)


def head_message(signed: SignedHead) -> str:
    """Return the signed head over the entries before it as a message."""
    head = signed.head
    members = (
        ("fleet", head.log),
        ("size", str(head.size)),
        ("root", head.root.hex()),
        ("signature", base64.b64encode(signed.signature).decode()),
    )
    text = f"{head.size} entries signed"
    return _message(_NOTICE, time_text(head.at), "audit.head", data=_element("head", members), text=text)


def _message(severity: int, at: str, kind: str, *, data: str, text: str) -> str:
    """Return a message of version 1; neither host nor process is told (RFC 5424 6.2)."""
    line = text.translate(_PICTURES)
    mark = "" if line.isascii() else "\ufeff"  # RFC 5424 6.4: what is UTF-8 begins with the mark
    return f"<{_LOG_AUDIT * 8 + severity}>1 {at} - fleet - {kind} {data} {mark}{line}"


def _element(name: str, members: Iterable[tuple[str, str]]) -> str:
    """Return structured data with its escapes (RFC 5424 6.3.3), or nothing where there is none."""
    told = "".join(f' {key}="{value.translate(_PICTURES).translate(_ESCAPED)}"' for key, value in members)
    return f"[{name}@{_ENTERPRISE}{told}]" if told else ""


def _name(text: str) -> str:
    """Return a name as RFC 5424 6.3.2 has it: 1 to 32 printable ASCII characters, some of them left out."""
    return _NO_NAME.sub("_", text)[:_LONGEST_NAME] or "_"
