"""What a check of the doctor found, with what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; `fix` is what to do, empty where all is well."""

    check: str
    ok: bool
    text: str
    fix: str = ""


def good(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, ok=True, text=text)


def bad(check: str, text: str, *, fix: str) -> Finding:
    """Return that something is not, and what to do."""
    return Finding(check=check, ok=False, text=text, fix=fix)
