"""Who is which user, in the form that a web server reads: the access policy, compiled for relying parties.

Serial numbers are written as the servers write those of their clients: upper-case hex. A server must trust
the fleet's CAs for devices alone, for a serial says nothing of who made it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Server(StrEnum):
    """A kind of web server."""

    NGINX = "nginx"
    APACHE = "apache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """An admitted certificate, and the word that it stands for: a user, or roles set apart by commas."""

    serial: str
    word: str


def compiled(rows: Iterable[Mapped], server: Server, *, variable: str) -> Iterator[str]:
    """Yield the lines of a map.

    nginx: a `map` for the http block (ngx_http_map_module), from `$ssl_client_serial` to `$variable`; a
    client that is not in it has the empty text. Apache: a text file for `RewriteMap` (mod_rewrite), looked up
    by `%{SSL:SSL_CLIENT_M_SERIAL}`.
    """
    if server is Server.NGINX:
        yield f"map $ssl_client_serial ${variable} {{"
        yield '    default "";'
        yield from (f'    {row.serial.upper()} "{row.word}";' for row in rows)
        yield "}"
    else:
        yield from (f"{row.serial.upper()} {row.word}" for row in rows)
