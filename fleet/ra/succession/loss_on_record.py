"""Records the loss of a CA's key in a home whose server cannot start without it: who signs in its place.

All else follows once the server runs again. It works under the home's lock, as the server would.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet import config
from fleet.ca.auditkey import load_audit_signer
from fleet.core.authority import ISSUES, AuthorityEvent
from fleet.home import Home
from fleet.ports import Transaction
from fleet.ra.authority_changes import Change, change, find
from fleet.ra.succession.compromise import Admission, Loss, LossOrder, Stopping, stop_lost
from fleet.store.authorities import list_authorities
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineLoss:
    """A CA whose key is gone, and the one that stood by."""

    lost: str
    successor: str
    signed_by: str
    """Hex subject key identifier of the CA above the successor."""
    actor: str
    at: datetime


async def record_loss(home: Home, loss: OfflineLoss) -> None:
    """Let the CA that stands by sign, if it can, and the lost one be believed no more: one commit.

    Raises:
        NotFoundError: there is no such CA. RefusedError: a server holds the home, or it cannot be done.
    """
    settings = config.load(home.config)
    seal = AuditSeal(
        log=settings.fleet,
        sign=load_audit_signer(home.audit_key),
        clock=lambda: loss.at,
        head_file=home.audit_head,
    )
    with home.lock():
        async with open_store(home.database, seal=seal) as store:
            await store.write(_record, loss)


async def _is_under_a_root(tx: Transaction, loss: OfflineLoss) -> bool:
    """Tell whether the successor's root is active; a company's CA above it is judged by its owner."""
    above = [one for one in await list_authorities(tx) if one.is_root and one.issuer == loss.signed_by]
    return all(root.state in ISSUES for root in above)


async def _record(tx: Transaction, loss: OfflineLoss) -> None:
    # Where it cannot sign, the loss is recorded all the same: no server could start with the key gone.
    if await _is_under_a_root(tx, loss):
        what = Change(name=loss.successor, actor=loss.actor, at=loss.at)
        await change(tx, AuthorityEvent.ACTIVATED, what)
    order = LossOrder(
        name=loss.lost, loss=Loss.LOST, actor=loss.actor, at=loss.at, admission=Admission.CUT_OFF
    )
    await stop_lost(tx, Stopping(record=await find(tx, loss.lost), serial="", order=order))
