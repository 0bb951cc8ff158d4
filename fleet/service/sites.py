"""The applications on the HTTP listeners, their TLS, and the file that tells where they answer."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.channels import est as est_channel
from fleet.errors import FleetError
from fleet.live_tls import Door
from fleet.model import Purpose
from fleet.pair_files import in_force
from fleet.ra.context import Context, Endpoints, Listener
from fleet.ra.makers import load_makers
from fleet.service.parts import Parts
from fleet.web import api, devices, est, health, metrics, shipped, status
from fleet.web.gate import problems
from fleet.web.listening import bind_unix, serving
from fleet.web.visitors import visitors

LOOPBACK = "127.0.0.1"
_SHOWN_ALONE = {Purpose.DEVICE, Purpose.CLAIM}


def status_app(context: Context) -> web.Application:
    app = web.Application(middlewares=[problems])
    status.mount(app, context)
    return app


def device_app(context: Context) -> web.Application:
    app = web.Application(middlewares=[problems, visitors(context)])
    devices.mount(app, context, listener=Listener.HTTPS)
    shipped.mount(app, context)
    est.mount(app, est_channel.answerer(context))
    health.mount(app, context)
    metrics.mount(app, context)
    api.mount(app, context)
    return app


def metrics_app(context: Context) -> web.Application:
    app = web.Application(middlewares=[problems])
    metrics.mount_open(app, context)
    return app


@asynccontextmanager
async def admin_site(context: Context) -> AsyncIterator[None]:
    """Serve operators, and stations of this home, on the socket that its owner alone can open."""
    app = web.Application(middlewares=[problems])
    devices.mount(app, context, listener=Listener.ADMIN)
    shipped.mount(app, context)
    health.mount(app, context)
    metrics.mount(app, context)
    api.mount(app, context)
    with bind_unix(context.home.admin_socket) as listener:
        try:
            async with serving(app, listener):
                yield
        finally:
            context.home.admin_socket.unlink(missing_ok=True)


def server_door(parts: Parts) -> Door:
    """Return the TLS of the HTTPS listener, which can be made anew; raises `FleetError`."""
    return Door(lambda: server_tls(parts))


def server_tls(parts: Parts) -> ssl.SSLContext:
    """A client certificate is optional in TLS, required by route (INTERFACES.md).

    Issuing CAs are loaded beside the roots, for clients that show their leaf alone, as EST's do; a chain
    still has to end at a root. Manufacturers' anchors open nothing but what asks for their certificates.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    pair = in_force(parts.home.server)
    try:
        tls.load_cert_chain(pair.certificate, pair.key)
    except (OSError, ssl.SSLError) as error:
        raise FleetError(
            f"the server's certificate cannot be used: {pair.certificate}",
            hint="restore it from a backup of the fleet home",
        ) from error
    tls.load_verify_locations(cadata="".join(root.pem for root in parts.authority.anchors))
    issuers = [one for one in parts.authority.admitted if one.purpose in _SHOWN_ALONE]
    tls.load_verify_locations(cadata="".join(one.chain_pem for one in issuers))
    if parts.home.adopted_authorities.exists():
        tls.load_verify_locations(cafile=parts.home.adopted_authorities)
    for anchor in load_makers(parts.config, root=parts.home.root).certificates:
        tls.load_verify_locations(cadata=anchor.public_bytes(Encoding.DER))
    tls.verify_mode = ssl.CERT_OPTIONAL
    return tls


def endpoints_json(endpoints: Endpoints) -> bytes:
    ports = {
        "mqtt": endpoints.mqtt_port,
        "mqtt_bootstrap": endpoints.mqtt_bootstrap_port,
        "https": endpoints.https_port,
        "http": endpoints.http_port,
    }
    found = {name: {"host": endpoints.host, "port": port} for name, port in ports.items()}
    if endpoints.metrics_port:
        found["metrics"] = {"host": LOOPBACK, "port": endpoints.metrics_port}
    return json.dumps(found, indent=2).encode() + b"\n"
