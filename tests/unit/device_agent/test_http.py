"""The HTTP client of the agent: whatever it was told to reach, it fails in words."""

import ssl

import pytest

from device_agent.channels.http import Peer
from device_agent.errors import ChannelError
from device_agent.wire.fields import Fields
from device_agent.wire.replies import HttpsAddress


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", ".example"])
async def test_a_host_that_can_be_none_is_not_reached_and_stops_nothing(host: str) -> None:
    """A server's word about where it recovers: were it an error of its own kind, it would end the agent."""
    told = HttpsAddress.read(Fields({"host": host, "port": 8443}))
    peer = Peer(host=told.host, port=told.port, tls=ssl.create_default_context())
    with pytest.raises(ChannelError, match="cannot reach"):
        await peer.get("/api/v1/nonce")
