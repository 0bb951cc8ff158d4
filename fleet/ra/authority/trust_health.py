"""What the doctor says of trust bundles: which devices refuse them."""

from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.store.rollovers import NAMED
from fleet.store.trust import distrustful

_SHOWN = 3


async def trust(context: Context) -> list[Finding]:
    """Look at what devices say of the roots that they were told of."""
    refused = await context.store.read(distrustful, NAMED)
    if refused:
        some = ", ".join(f"{name} ({problem})" for name, problem in refused[:_SHOWN])
        more = "" if len(refused) <= _SHOWN else f" and {len(refused) - _SHOWN} more"
        fix = f"fleet audit search --device {refused[0][0]} --action trust.refused"
        return [bad("trust", f"devices refuse a trust bundle: {some}{more}", fix=fix)]
    return [good("trust", "no device refuses the roots that it was told of")]
