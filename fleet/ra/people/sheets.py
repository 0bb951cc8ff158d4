"""Prints one-time codes for people: a list as text, or cards to cut out as HTML that needs no network.

With the extra `labels`, each card has a QR code, which a scanner types into `device-agent recover`.

Whoever holds a sheet holds the codes: it is made once, for whoever made the codes, and kept nowhere.
"""

from collections.abc import Sequence
from html import escape

from device_agent.wire.code_text import WrittenCode
from device_agent.wire.fields import time_text
from fleet.ra.people.claims import NewCode

_STYLE = """
body { font: 11pt sans-serif; margin: 10mm; }
.card { display: inline-block; width: 80mm; border: 1px dashed #888; padding: 4mm; margin: 0 2mm 4mm 0;
  page-break-inside: avoid; break-inside: avoid; }
.code { font: bold 15pt monospace; letter-spacing: .5px; margin: 2mm 0; }
.card svg { float: right; margin-left: 3mm; }
.until { color: #444; font-size: 9pt; }
"""


def sheet_text(codes: Sequence[NewCode], *, fleet: str) -> str:
    """Return the codes as a table in plain text."""
    width = max([len(new.identity.name) for new in codes], default=0)
    lines = [f"one-time codes of fleet {fleet}: hand each to its device only, then destroy this sheet", ""]
    lines += [
        f"{new.identity.name:<{width}}  {new.code.reveal()}  until {time_text(new.expires_at)}"
        for new in codes
    ]
    return "\n".join(lines) + "\n"


def sheet_html(codes: Sequence[NewCode], *, fleet: str) -> str:
    """Return the codes as a page to print and cut: a card for each device."""
    cards = "\n".join(_card(new) for new in codes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>One-time codes of {escape(fleet)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n<p>Fleet {escape(fleet)}. Hand each card to its device only:"
        " each code works for one key.</p>\n"
        f"{cards}\n</body></html>\n"
    )


def _card(new: NewCode) -> str:
    until = time_text(new.expires_at)
    return (
        f'<div class="card">{_picture(new)}<div>{escape(new.identity.device_id)}</div>'
        f'<div class="code">{escape(new.code.reveal())}</div>'
        f'<div class="until">domain {escape(new.identity.domain)}, until {until}</div></div>'
    )


def _picture(new: NewCode) -> str:
    """Return the QR code as SVG, empty where nothing here can draw one."""
    try:
        import segno  # noqa: PLC0415 - behind the extra `labels`
    except ImportError:
        return ""
    text = WrittenCode(code=new.code, identity=new.identity).text()
    return str(segno.make_qr(text, error="m").svg_inline(scale=2))
