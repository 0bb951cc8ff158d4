"""A witness of the audit trail: a second party that signs that the trail carries on from what it knew."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from fleet.witness_sections import WitnessConfig

Submit: TypeAlias = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Sends a witness a submission; returns status and body of its answer, or raises `UnreachableError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What the configuration says of it, and the way there."""

    settings: WitnessConfig
    submit: Submit
