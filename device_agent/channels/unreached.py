"""Says why a server was not reached, in words for people, and what to look at."""

import re

from device_agent.errors import ChannelError

_AROUND = re.compile(r"^\[(?:Errno -?\d+|SSL(?:: [A-Z0-9_]+)?)\] | \(_ssl\.c:\d+\)$")
"""What Python puts before and after the words of the system and of OpenSSL."""

_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate does not fit the roots given with --trust, "
    "or the clock is wrong",
    "WRONG_VERSION_NUMBER": "what answers at this port speaks no TLS: is it the right port",
}
_NETWORK = "is the address right, does the server run, and is the network there"


def unreached(what: str, error: Exception) -> ChannelError:
    """Return the error that says what could not be done, such as `cannot reach https://h:443`."""
    reason = str(error)
    hint = next((hint for word, hint in _HINTS.items() if word in reason), _NETWORK)
    return ChannelError(f"{what}: {_AROUND.sub('', reason)}", hint=hint)
