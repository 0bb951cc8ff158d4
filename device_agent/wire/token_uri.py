"""PKCS#11 URIs (RFC 7512) as far as they name one token: parsed strictly, written as they were meant.

Device and server name tokens alike. It takes nothing twice, ignores nothing, and takes no PIN: a URI stands
on command lines and in files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from device_agent.wire.problems import MalformedMessageError

_SCHEME = "pkcs11:"
_LONGEST = 2048
_PATH_LIMITS = {"token": 32, "manufacturer": 32, "model": 16, "serial": 16, "object": 64}
"""Octets of each path attribute; the first four are fields of CK_TOKEN_INFO (PKCS#11 3.2)."""
_QUERY_LIMITS = {"module-path": 1024, "pin-source": 1024, "key-type": 16, "piv-slots": 128}

# RFC 7512 2.3: pk11-pchar and pk11-qchar.
_PATH_SAFE = ":[]@!$'()*+,=&"
_QUERY_SAFE = ":[]@!$'()*+,=/?|"
_ESCAPED = r"%[0-9A-Fa-f]{2}"
_PATH_VALUE = re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(_PATH_SAFE)}]|{_ESCAPED})+")
_QUERY_VALUE = re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(_QUERY_SAFE)}]|{_ESCAPED})+")
_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """One token, the module that speaks to it, and where its PIN is found. Empty text says nothing."""

    module_path: str
    token: str = ""
    serial: str = ""
    manufacturer: str = ""
    model: str = ""
    object: str = ""
    """In a URI of a key its label; in the place of several keys what all their labels begin with."""
    pin_source: str = ""
    key_type: str = ""
    """What keys are made there; an attribute of our own (RFC 7512 2.3, vendor-specific), in no key's URI."""
    piv_slots: str = ""
    """In which slots of a PIV token keys were made for this device, as 9a,9c; of our own, too."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of a PIV token, in the order in which their keys are used."""
        return tuple(self.piv_slots.split(",")) if self.piv_slots else ()

    def text(self, *, of_key: bool = False) -> str:
        """Return the URI; that of a private key says so (RFC 7512 2.3, `type`)."""
        names = ("token", "manufacturer", "serial", "model", "object")
        path = [f"{name}={quote(value, safe='')}" for name in names if (value := getattr(self, name))]
        if of_key:
            path.append("type=private")
        query = [f"module-path={quote(self.module_path, safe='/')}"]
        if self.pin_source:
            query.append(f"pin-source={quote(self.pin_source, safe='/:|')}")
        if self.key_type and not of_key:
            query.append(f"key-type={quote(self.key_type, safe='')}")
        if self.piv_slots and not of_key:
            query.append(f"piv-slots={quote(self.piv_slots, safe=',')}")
        return f"{_SCHEME}{';'.join(path)}?{'&'.join(query)}"


def read_token_uri(text: str) -> TokenUri:
    """Return the token that a URI names.

    Raises:
        MalformedMessageError: it is malformed, says something twice or something unknown, holds a PIN, or
            does not say which token and which module.
    """
    if not text.startswith(_SCHEME) or len(text) > _LONGEST:
        raise _bad("it begins with pkcs11: and is short")
    path, _, query = text.removeprefix(_SCHEME).partition("?")
    if "pin-value" in query:
        raise MalformedMessageError(
            "a PIN does not stand in a URI, for others read command lines and files: put it into a 0600 file,"
            " and say pin-source=file:/path"
        )
    said = _attributes(path, ";", value=_PATH_VALUE, limits=_PATH_LIMITS)
    asked = _attributes(query, "&", value=_QUERY_VALUE, limits=_QUERY_LIMITS)
    if not said.get("token") and not said.get("serial"):
        raise _bad("it names the token, by token= or serial=")
    if not asked.get("module-path", "").startswith("/"):
        raise _bad("it names the token's library, by module-path= and a path from /")
    return TokenUri(
        module_path=asked["module-path"],
        token=said.get("token", ""),
        serial=said.get("serial", ""),
        manufacturer=said.get("manufacturer", ""),
        model=said.get("model", ""),
        object=said.get("object", ""),
        pin_source=asked.get("pin-source", ""),
        key_type=asked.get("key-type", ""),
        piv_slots=asked.get("piv-slots", ""),
    )


def _attributes(
    text: str, separator: str, *, value: re.Pattern[str], limits: Mapping[str, int]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(separator) if text else ():
        name, equals, raw = part.partition("=")
        if name not in limits or not equals:
            raise _bad(f"it says nothing but {', '.join(limits)} there")
        if name in found:
            # libp11-kit takes the first, others the last: two readers would see two tokens.
            raise _bad(f"it says {name} once")
        if not value.fullmatch(raw):
            raise _bad(f"{name} holds a character that must be written as %XX")
        found[name] = _unescaped(name, raw, longest=limits[name])
    return found


def _unescaped(name: str, raw: str, *, longest: int) -> str:
    octets = _OCTET.sub(lambda found: bytes.fromhex(found[1].decode()), raw.encode())
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise _bad(f"{name} is UTF-8") from error
    if len(octets) > longest or not text.isprintable():
        raise _bad(f"{name} is printable, with {longest} octets at most")
    return text


def _bad(rule: str) -> MalformedMessageError:
    return MalformedMessageError(f"this is no URI of a token: {rule}")
