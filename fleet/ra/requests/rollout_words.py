"""Hears what devices that a rollout waits for say of themselves, or are refused with.

It keeps words, and judges none but one thing: whether a problem passes by itself.
"""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.notices import StateReport
from device_agent.wire.problems import RETRY_ADVICE, Retry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.choices import configuration_of, note_held
from fleet.store.rollout_devices import note_trouble, stir, stirs

_GRAVE = frozenset({code.value for code, advice in RETRY_ADVICE.items() if advice is Retry.NEVER}) | {
    "failed",
    "key-lost",
    "key-store",
    "state",
    "unacceptable-answer",
}
"""Words of devices, and codes of ours, for what does not pass by itself. No connection is none of them."""
_OF_TRUST = "trust-"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a device says of itself, as far as a rollout could wait for it."""

    identity: Identity
    trouble: str
    configuration: int


def is_grave(word: str) -> bool:
    """Tell whether a problem is one that a device does not get over by trying again."""
    return word in _GRAVE or word.startswith(_OF_TRUST)


async def hear_state(context: Context, identity: Identity, report: StateReport) -> None:
    """Keep what a state tells rollouts; a state that is retained comes again with every start of the server.

    Raises:
        FleetError: the store does not answer.
    """
    word = report.problem or ""
    said = _Said(
        identity=identity, trouble=word if is_grave(word) else "", configuration=report.configuration
    )
    if await context.store.read(_is_news, said):
        await context.store.write(_keep, said)


async def hear_refusal(tx: Transaction, identity: Identity, code: str) -> None:
    """Keep that a device's renewal was refused for good."""
    if is_grave(code):
        await note_trouble(tx, identity, code)


async def _is_news(tx: Transaction, said: _Said) -> bool:
    if said.trouble and await stirs(tx, said.identity):
        return True
    known = await configuration_of(tx, said.identity)
    return known is not None and known.held != said.configuration


async def _keep(tx: Transaction, said: _Said) -> None:
    if said.trouble:
        await note_trouble(tx, said.identity, said.trouble)
    await note_held(tx, said.identity, said.configuration)
    await stir(tx, said.identity)
