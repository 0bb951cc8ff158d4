"""Tells systemd how far the service is (sd_notify(3)); does nothing where nobody wants to know."""

import logging
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


def notify(state: str, environment: Mapping[str, str]) -> None:
    """Send `READY=1`, `STOPPING=1` or `STATUS=...` to the socket that NOTIFY_SOCKET names."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # A name that starts with @ stands for one in the abstract namespace (unix(7)).
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.connect(name)
            caller.sendall(state.encode())
    except OSError as error:
        _log.info("cannot tell systemd %s: %s", state, error)
