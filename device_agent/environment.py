"""Tells other programs of this device where its identity is: the environment that hooks and `exec` give.

Every path goes through `current`, so that it holds after each renewal; no value is a secret.
"""

from pathlib import Path

from device_agent.core.record import Credential
from device_agent.hooks import Change
from device_agent.store import CURRENT
from device_agent.wire.identity import parse_name


def change_of(state: Path, generation: str, active: Credential) -> Change:
    """Return what hooks are told of a folder that `current` leads to now."""
    return Change(generation=generation, serial=active.serial, environment=environment_of(state, active))


def end_of(state: Path, active: Credential) -> dict[str, str]:
    """Return what hooks are told of an identity that is gone: whose it was, and where it is no more."""
    identity = parse_name(active.broker.name)
    return {
        "DEVICE_AGENT_NAME": identity.name,
        "DEVICE_AGENT_DOMAIN": identity.domain,
        "DEVICE_AGENT_ID": identity.device_id,
        "DEVICE_AGENT_SERIAL": active.serial,
        "DEVICE_AGENT_CURRENT": str(state.absolute() / CURRENT),
    }


def environment_of(state: Path, active: Credential) -> dict[str, str]:
    """Return the variables; the key is a file's path or a PKCS#11 URI (RFC 7512)."""
    current = state.absolute() / CURRENT
    uri = current / "key.uri"
    return {
        **end_of(state, active),
        "DEVICE_AGENT_CERT": str(current / "cert.pem"),
        "DEVICE_AGENT_CHAIN": str(current / "chain.pem"),
        "DEVICE_AGENT_TRUST": str(current / "trust.pem"),
        "DEVICE_AGENT_SERVERS": str(current / "servers.pem"),
        "DEVICE_AGENT_KEY": uri.read_text().strip() if uri.exists() else str(current / "key.pem"),
        **(_broker_of(active) if active.has_broker else {}),
    }


def _broker_of(active: Credential) -> dict[str, str]:
    return {
        "DEVICE_AGENT_BROKER_HOST": active.broker.host,
        "DEVICE_AGENT_BROKER_PORT": str(active.broker.port),
    }
