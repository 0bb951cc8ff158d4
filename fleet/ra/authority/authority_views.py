"""Roots and issuing CAs as operators see them: the record, what the certificate says, how full each is."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from fleet.ca.hierarchy import Root
from fleet.ca.issuer import Issuer, pem_bundle
from fleet.core.authority import AuthorityRecord
from fleet.errors import BadInputError, NotFoundError
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.authorities import LeavesQuery, leaves_of, list_authorities


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityView:
    """One CA; `certificate` is None as long as it waits for one."""

    record: AuthorityRecord
    leaves: int
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()
    """The CAs between it and its root."""
    anchor: str | None = None
    crl_until: datetime | None = None

    @property
    def chain_pem(self) -> str | None:
        return None if self.certificate is None else pem_bundle([self.certificate, *self.chain])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    record: AuthorityRecord
    leaves: int


async def list_views(context: Context) -> tuple[AuthorityView, ...]:
    """Return all CAs, those that wait for their certificates too: by realm, roots first."""
    counted = await context.store.read(_count, context.clock())
    authority = context.authority
    roots = {root.issuer_id: root for root in authority.roots}
    issuers = {issuer.issuer_id: issuer for issuer in authority.issuers}
    return tuple(
        _of_root(one, roots[one.record.issuer])
        if one.record.issuer in roots
        else _of_issuer(context, one, issuers.get(one.record.issuer))
        for one in counted
    )


async def show(context: Context, name: str) -> AuthorityView:
    """Return a CA by its name, which is its folder, or by its hex subject key identifier.

    Raises:
        NotFoundError: there is none.
    """
    for view in await list_views(context):
        if name in {view.record.folder, view.record.issuer}:
            return view
    raise NotFoundError(f"there is no CA {name}", hint="fleet ca list")


async def _count(tx: Transaction, now: datetime) -> tuple[_Counted, ...]:
    return tuple(
        [
            _Counted(record=record, leaves=await leaves_of(tx, LeavesQuery(issuer=record.issuer, now=now)))
            for record in await list_authorities(tx)
        ]
    )


def _of_root(counted: _Counted, root: Root) -> AuthorityView:
    return AuthorityView(
        record=counted.record,
        leaves=counted.leaves,
        certificate=root.certificate,
        anchor=root.anchor,
        crl_until=crl_end(root),
    )


def _of_issuer(context: Context, counted: _Counted, issuer: Issuer | None) -> AuthorityView:
    if issuer is None:
        return AuthorityView(record=counted.record, leaves=counted.leaves)
    crl = context.crls.find(issuer.issuer_id)
    return AuthorityView(
        record=counted.record,
        leaves=counted.leaves,
        certificate=issuer.certificate,
        chain=issuer.chain,
        anchor=issuer.anchor,
        crl_until=None if crl is None else crl.next_update,
    )


def crl_end(root: Root) -> datetime | None:
    """Return until when the list of a root may be believed; None where there is none.

    Raises:
        BadInputError: the file is no list.
    """
    if root.crl is None:
        return None
    try:
        return x509.load_der_x509_crl(root.crl).next_update_utc
    except ValueError as error:
        raise BadInputError(
            f"the CRL of the root {root.record.folder} cannot be read", hint="fleet ca crl"
        ) from error
