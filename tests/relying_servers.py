"""Mosquitto, Apache and nginx as other people run them, and clients with every kind of certificate."""

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.core.log_lines import Product
from tests.pki import Authority, Pair, Pki, bundle, utc_now

APACHE_MODULES = Path("/usr/lib/apache2/modules")
_CONNECT = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab"
_GET = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
ACCESS_FORMAT = (
    '{"time":"$time_iso8601","client":"$remote_addr","status":"$status","verify":"$ssl_client_verify",'
    '"serial":"$ssl_client_serial","subject":"$ssl_client_s_dn","issuer":"$ssl_client_i_dn"}'
)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Of a fleet's domain `prod`, whose root the servers trust, and of others."""

    folder: Path
    pki: Pki
    shown: dict[str, Pair]
    root: Path
    crl: Path

    def name(self, kind: str) -> str:
        """Return the subject of a kind's certificate, as it is found in it."""
        return self.shown[kind].certificate.subject.rfc4514_string()


def make_certificates(folder: Path) -> Certificates:
    """Make one of each kind, the roots, and the lists of both CAs."""
    pki, now, day = Pki(), utc_now(), timedelta(days=1)
    devices = pki.devices["prod"]
    alone = Authority.root("alone")
    revoked = devices.leaf("revoked")
    devices.revoked.append(revoked.certificate.serial_number)
    shown = {
        "valid": devices.leaf("valid"),
        "other-domain": pki.devices["lab"].leaf("other"),
        "revoked": revoked,
        "expired": devices.leaf("expired", not_before=now - 2 * day, not_after=now - day),
        "future": devices.leaf("future", not_before=now + day, not_after=now + 2 * day),
        "self-signed": Pair(key=alone.key, certificate=alone.certificate),
        "server-only": devices.leaf("server", usages=(x509.ExtendedKeyUsageOID.SERVER_AUTH,)),
    }
    for kind, pair in shown.items():
        pair.write(folder, kind)
    pki.server().write(folder, "server")
    crl = folder / "crl.pem"
    lists = [x509.load_der_x509_crl(one.crl()) for one in (devices, pki.roots["prod"])]
    crl.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in lists))
    root = bundle(folder, "root.pem", pki.roots["prod"].certificate)
    return Certificates(folder=folder, pki=pki, shown=shown, root=root, crl=crl)


@dataclass(frozen=True, kw_only=True)
class Server:
    """One that runs; `access` is its second log, where it has one."""

    product: Product
    port: int
    log: Path
    access: Path | None = None


@contextmanager
def serving(product: Product, made: Certificates, folder: Path) -> Iterator[Server]:
    """Run a server that wants a certificate of `prod`."""
    folder.mkdir(parents=True)
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = int(chosen.getsockname()[1])
    config, log = folder / "server.conf", folder / "error.log"
    text, command = {
        Product.MOSQUITTO: (_mosquitto, ("mosquitto", "-c", config)),
        Product.NGINX: (_nginx, ("nginx", "-p", folder, "-c", config, "-e", log)),
        Product.APACHE: (_apache, ("apache2", "-f", config, "-DFOREGROUND")),
    }[product]
    config.write_text(text(made, folder, port))
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            assert process.poll() is None, log.read_text()
        yield Server(
            product=product,
            port=port,
            log=log,
            access=folder / "access.log" if product is Product.NGINX else None,
        )
    finally:
        process.terminate()
        process.wait()


async def visit(server: Server, made: Certificates, kind: str, *, tls: ssl.TLSVersion | None = None) -> bool:
    """Connect with a certificate, or with `none`; say whether the server served us."""
    return await asyncio.to_thread(_visit, server, made, kind, tls)


def _visit(server: Server, made: Certificates, kind: str, tls: ssl.TLSVersion | None) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls is not None:
        context.maximum_version = tls
    if kind != "none":
        context.load_cert_chain(made.folder / f"{kind}.crt", made.folder / f"{kind}.key")
    is_mqtt = server.product is Product.MOSQUITTO
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain) as client,
    ):
        client.sendall(_CONNECT if is_mqtt else _GET)
        answer = client.recv(64)
        refused = not answer or answer.startswith(b"HTTP/1.1 400")
        return answer == b"\x20\x02\x00\x00" if is_mqtt else not refused
    return False


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _user(line: str) -> str:
    return line if os.geteuid() == 0 else ""


def _mosquitto(made: Certificates, folder: Path, port: int) -> str:
    return f"""listener {port} 127.0.0.1
cafile {made.root}
crlfile {made.crl}
certfile {made.folder / "server.crt"}
keyfile {made.folder / "server.key"}
require_certificate true
use_identity_as_username true
{_user("user root")}
log_dest file {folder / "error.log"}
log_type error
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


def _nginx(made: Certificates, folder: Path, port: int) -> str:
    places = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in _KINDS)
    return f"""{_user("user root;")}
daemon off; worker_processes 1; pid {folder / "pid"}; error_log {folder / "error.log"} info;
events {{}}
http {{
{places}
log_format fleet escape=json '{ACCESS_FORMAT}';
access_log {folder / "access.log"} fleet;
server {{
listen 127.0.0.1:{port} ssl;
ssl_certificate {made.folder / "server.crt"}; ssl_certificate_key {made.folder / "server.key"};
ssl_client_certificate {made.root}; ssl_crl {made.crl}; ssl_verify_client on; ssl_verify_depth 3;
location / {{ return 200 "ok"; }}
}}
}}
"""


def _apache(made: Certificates, folder: Path, port: int) -> str:
    modules = "".join(
        f"LoadModule {name}_module {APACHE_MODULES / f'mod_{name}.so'}\n"
        for name in ("mpm_event", "authn_core", "authz_core", "ssl")
    )
    return f"""ServerRoot {folder}
ServerName localhost
PidFile {folder / "pid"}
Mutex file:{folder}
{modules}
{_user("User nobody")}
{_user("Group nogroup")}
ErrorLog {folder / "error.log"}
LogLevel warn ssl:info
Listen 127.0.0.1:{port}
DocumentRoot {folder}
<VirtualHost *:{port}>
SSLEngine on
SSLCertificateFile {made.folder / "server.crt"}
SSLCertificateKeyFile {made.folder / "server.key"}
SSLCACertificateFile {made.root}
SSLCARevocationFile {made.crl}
SSLCARevocationCheck chain
SSLVerifyClient require
SSLVerifyDepth 3
</VirtualHost>
"""
