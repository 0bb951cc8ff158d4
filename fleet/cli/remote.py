"""The way to a server elsewhere: HTTPS, with an operator's certificate.

The server is believed by the certificates of `--trust`, or of the system where none is named; it is never
asked without being checked.
"""

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fleet.errors import BadInputError, FleetError, RefusedError, UnreachableError, UsageError

_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server, asked by nobody in particular."""

    server: str
    trust: Path | None = None

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet.

        Raises:
            UsageError: the address is none.
            BadInputError: certificate, key or trust cannot be used.
        """
        host, port = self.address
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self.tls())

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server; raises `UsageError`."""
        return _place(self.server)

    def explain(self, error: Exception) -> FleetError:
        """Return what went wrong on the way, and what to do."""
        words = str(error).lower() or "no answer"
        match error:
            case ssl.SSLCertVerificationError():
                return UnreachableError(
                    f"{self.server} does not prove to be the fleet's server: {error.verify_message}",
                    hint="--trust names the fleet's trust/server.pem; the host must be in its certificate",
                )
            # TLS 1.3 tells a refusal with the first read (RFC 8446 4.4.2.4), and some servers with nothing.
            case ssl.SSLError() | http.client.RemoteDisconnected() | ConnectionResetError():
                return self._hung_up()
            case _:
                return UnreachableError(
                    f"{self.server} does not answer: {words}",
                    hint="is fleet serve running there, and is it the https port of fleet.toml?",
                )

    def tls(self) -> ssl.SSLContext:
        """Return what connections are made with; raises BadInputError."""
        try:
            tls = ssl.create_default_context(cafile=None if self.trust is None else str(self.trust))
        except (OSError, ssl.SSLError) as error:
            raise BadInputError(f"{self.trust} holds no certificates that can be read") from error
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        return tls

    def _hung_up(self) -> FleetError:
        return UnreachableError(
            f"{self.server} ended the connection", hint="is it the https port of fleet.toml?"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote(Server):
    """A server, and who asks it."""

    certificate: Path
    key: Path
    code_file: Path | None = None
    """Holds a code of his second factor; where it is None, a terminal is asked."""

    def tls(self) -> ssl.SSLContext:
        """Return what connections are made with; raises BadInputError."""
        tls = Server.tls(self)
        try:
            tls.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise BadInputError(
                f"{self.certificate} and {self.key} cannot be used as certificate and key",
                hint="both are PEM, the key without a passphrase, as fleet operator add writes them",
            ) from error
        return tls

    def _hung_up(self) -> FleetError:
        return RefusedError(
            f"{self.server} ended the connection over the certificate {self.certificate}",
            hint="it does so where another authority signed it, or it has expired: fleet operator recover",
        )


def _no_password() -> str:
    """Keep OpenSSL from asking on the terminal."""
    return ""


def _place(server: str) -> tuple[str, int]:
    try:
        address = urlsplit(server)
        host, port = address.hostname, address.port
    except ValueError:
        host, port, address = None, None, urlsplit("")
    if address.scheme != "https" or not host or address.path not in {"", "/"} or address.query:
        raise UsageError(
            f"{server!a} is no address of a server", hint="such as https://fleet.example.org:8443"
        )
    return host, port or _HTTPS_PORT
