"""/healthz says that the process lives, /readyz that it can do its work; both tell nothing else."""

from http import HTTPStatus

from aiohttp import web

from fleet.errors import FleetError
from fleet.ra.context import Context
from fleet.store import allowlist


def mount(app: web.Application, context: Context) -> None:
    """Add both routes."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        try:
            await context.store.read(allowlist.sequence, None)
            ready = context.answering()
        except FleetError:
            ready = False
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"status": "ok" if ready else "unavailable"}, status=status)

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
