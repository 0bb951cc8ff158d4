"""Asks the webhook over HTTPS: one address, one try, no redirect, and no way into the inside of a network."""

from collections.abc import Mapping
from pathlib import Path

from device_agent.wire.secret import Secret
from fleet.outbound import HttpsPoster, Target, read_shared_secret
from fleet.ports import HookReply
from fleet.proof_sections import WebhookConfig
from fleet.ra.webhook import MAX_ANSWER_BYTES, SIGNATURE


class HttpsHookCaller:
    """`ports.HookCaller` over HTTPS."""

    def __init__(self, settings: WebhookConfig, *, root: Path) -> None:
        """Read the roots that the service is trusted by; raises `BadInputError`."""
        target = Target(
            url=settings.url,
            timeout=settings.timeout,
            trust=settings.trust,
            private_hosts=settings.private_hosts,
        )
        self._poster = HttpsPoster(target, root=root)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HookReply:
        """Return the answer; raises `UnreachableError`."""
        found = await self._poster.post(body, headers, most=MAX_ANSWER_BYTES)
        return HookReply(status=found.status, signature=found.headers.get(SIGNATURE, ""), body=found.body)


def read_secret(settings: WebhookConfig, *, root: Path) -> Secret:
    """Return the secret that both sides sign with; raises `BadInputError`."""
    return read_shared_secret(settings.secret_file, root=root)
