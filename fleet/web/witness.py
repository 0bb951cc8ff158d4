"""Sends checkpoints of the audit trail to a witness (C2SP tlog-witness): strict HTTPS, as all calls out."""

from pathlib import Path

from fleet.core.checkpoint import MAX_ANSWER_BYTES
from fleet.outbound import HttpsPoster, Target
from fleet.ra.witness import Submit
from fleet.witness_sections import WitnessConfig

_ADD_CHECKPOINT = "/add-checkpoint"
_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}


def submitter(settings: WitnessConfig, *, root: Path) -> Submit:
    """Return the way to a witness; raises `BadInputError` where its roots cannot be read."""
    target = Target(
        url=settings.url + _ADD_CHECKPOINT,
        timeout=settings.timeout,
        trust=settings.trust,
        private_hosts=settings.private_hosts,
    )
    poster = HttpsPoster(target, root=root)

    async def submit(body: bytes) -> tuple[int, bytes]:
        answer = await poster.post(body, _HEADERS, most=MAX_ANSWER_BYTES)
        return answer.status, answer.body

    return submit
