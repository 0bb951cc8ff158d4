"""TLS contexts by which this device talks to its servers: its own roots only, never those of the system."""

import ssl
from collections.abc import Iterable

from device_agent.core.record import Anchor
from device_agent.errors import BadInputError


def client_context(servers: Iterable[Anchor]) -> ssl.SSLContext:
    """Return a context that trusts servers by these roots alone, and shows no certificate yet.

    Host names are checked (RFC 9525 6); TLS 1.2 is the least (RFC 9325 3.1.1).

    Raises:
        BadInputError: there is no root, or one cannot be read.
    """
    roots = "".join(anchor.pem for anchor in servers)
    if not roots:
        raise BadInputError(
            "nothing says which servers to trust", hint="give the roots with --trust trust/server.pem"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=roots)
    except ssl.SSLError as error:
        raise BadInputError("the roots to trust servers by cannot be read") from error
    return context
