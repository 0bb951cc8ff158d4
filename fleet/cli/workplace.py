"""Where a station works: in the server's own home, or on a computer of its own with the server elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.cli.client import is_served
from fleet.cli.remote import Remote
from fleet.config import load
from fleet.errors import BadInputError, NotFoundError, UnreachableError, UsageError
from fleet.files import telling
from fleet.home import Home, KeyPairFiles, open_home
from fleet.station.own.identity import StationIdentity, pair_of, token_file, token_signer
from fleet.station.server.tunnel import TokenServer
from fleet.station.server.way import AdminSocket, HttpsServer, Server

_LOCAL = "local"
"""The station that `fleet init` makes, of the first domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """`home` is the server's, where the station works in it. `anchors` (DER) is what devices trust."""

    station: str
    files: KeyPairFiles
    server: Server
    anchors: tuple[bytes, ...]
    home: Home | None = None
    remote: Remote | None = None

    @classmethod
    def at_home(cls, home: Home, station: str | None) -> Self:
        """Return the place of a station of this home; the only one, or `local`, where none is named.

        Raises:
            NotFoundError: the home has no station.
            UsageError: it has several.
        """
        name = station or _station_of(home)
        return cls(
            station=name,
            files=pair_of(home.station(name)),
            server=AdminSocket(path=home.admin_socket, station=name),
            anchors=_anchors(home.server_trust),
            home=home,
        )

    @classmethod
    def elsewhere(cls, remote: Remote, station: str | None) -> Self:
        """Return the place of a station that shows its own certificate to a server.

        Raises:
            UsageError: nothing says by what the server is trusted, or the address is none.
        """
        if remote.trust is None:
            raise UsageError(
                "a station must know its fleet", hint="--trust names the fleet's trust/server.pem"
            )
        anchors = _anchors(remote.trust)
        return cls(
            station=station or remote.certificate.stem,
            files=pair_of(KeyPairFiles(certificate=remote.certificate, key=remote.key)),
            server=_elsewhere(remote, anchors),
            anchors=anchors,
            remote=remote,
        )

    def server_again(self) -> Server:
        """Return the server, as it is asked with the certificate that is in force now."""
        return self.server if self.remote is None else _elsewhere(self.remote, self.anchors)

    @property
    def ledger(self) -> Path:
        """What the station made, beside its key."""
        return self.files.key.with_suffix(".db")

    @property
    def book(self) -> Path:
        """Labels, and what is to be delivered."""
        return self.files.key.with_suffix(".line.db")

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Use the server that runs, or be one as long as the station works."""
        if self.home is None or is_served(self.home):
            yield
            return
        if load(self.home.config).server.mqtt_port == 0:
            raise UnreachableError(
                "devices must be told a port, and fleet.toml leaves it to the server", hint="fleet serve"
            )
        from fleet.service import Listeners, running  # noqa: PLC0415 - the whole server, seldom needed here

        async with running(self.home.root, listeners=Listeners.ADMIN_ONLY):
            yield


def place_of(home: Path | Remote, station: str | None) -> Workplace:
    """Return where a station works: in a home, or with its certificate before a server elsewhere."""
    if isinstance(home, Remote):
        return Workplace.elsewhere(home, station)
    return Workplace.at_home(open_home(home), station)


def _elsewhere(remote: Remote, trust: tuple[bytes, ...]) -> HttpsServer | TokenServer:
    host, port = remote.address
    token = token_file(remote.key)
    if token is None:
        return HttpsServer(host=host, port=port, tls=remote.tls())
    return TokenServer(
        host=host,
        port=port,
        trust=trust,
        chain=StationIdentity.load(remote.certificate, remote.key).chain,
        key=token_signer(remote.certificate, token),
    )


def _station_of(home: Home) -> str:
    names = sorted(path.stem for path in home.stations.glob("*.crt")) if home.stations.is_dir() else []
    if len(names) == 1 or _LOCAL in names:
        return _LOCAL if _LOCAL in names else names[0]
    if not names:
        raise NotFoundError("this home has no station", hint="fleet station add line1 --batch NAME")
    raise UsageError("this home has several stations", hint=f"--station {' or --station '.join(names)}")


def _anchors(path: Path) -> tuple[bytes, ...]:
    """Return what devices trust servers by, DER."""
    with telling(path):
        content = path.read_bytes()
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise BadInputError(f"{path} holds no certificate", hint="restore it") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)
