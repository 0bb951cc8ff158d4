"""Rollovers for tests, as an operator with the roots at hand orders them."""

import asyncio
import os

from device_agent.wire.secret import Secret
from fleet.ca.ceremony import Commission, Hand, SignedRoot, perform
from fleet.ca.issuer import Issuer
from fleet.ca.root_at_hand import IssuingOrder, open_root, sign_issuing
from fleet.core.rollover import Insistence, Rollover, RolloverEvent
from fleet.model import Purpose
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.context import Context
from fleet.ra.succession.rollover import WorkOrder, begin
from fleet.ra.succession.rollover_material import Material, NewRoot, complete
from fleet.ra.succession.rollover_steps import Advanced, Mode, StepOrder, take_step
from tests.homes import utc_now

ACTOR = "operator:test"


async def prepare(context: Context, name: str) -> Rollover:
    """Let the roots of the home sign for each other, or for an issuing CA."""
    order = await begin(context, name, actor=ACTOR)
    material = await asyncio.to_thread(signed, context, order)
    return await complete(context, order.rollover.realm, material, actor=ACTOR)


def signed(context: Context, order: WorkOrder) -> Material:
    """Return what the roots sign."""
    home, status_url = context.home, context.endpoints.status_url
    commission = Commission(
        fleet=context.fleet,
        realm=order.rollover.realm,
        status_url=status_url,
        root_pem=order.root_pem,
        requests=tuple(
            (
                one.name,
                IssuingOrder(
                    csr_pem=one.csr_pem,
                    common_name=one.common_name,
                    purpose=one.purpose,
                    status_url=status_url,
                ),
            )
            for one in order.requests
        ),
        version=order.rollover.version,
        beside_pem=order.beside_pem,
        links_pem=order.links_pem,
    )
    roots = [name for name in order.rollover.brings if name.rpartition("/")[2].startswith("root-")]
    files = home.authority_files(order.root)
    hand = Hand(
        files=files,
        passphrase=None if files.token.exists() else Secret(home.root_passphrase.read_text().strip()),
        now=utc_now(),
        randomness=os.urandom,
        next_files=home.authority_files(roots[0]) if roots else None,
    )
    found = perform(commission, hand)
    return Material(certificates=found.certificates, root=_root(found.root))


def _root(root: SignedRoot | None) -> NewRoot | None:
    if root is None:
        return None
    return NewRoot(
        certificate_pem=root.certificate_pem,
        crl=root.crl,
        link_pem=root.link_pem,
        back_pem=root.back_pem,
        bundles=root.bundles,
    )


async def step(
    context: Context,
    realm: str,
    event: RolloverEvent,
    *,
    insistence: Insistence = Insistence.WAIT,
    mode: Mode = Mode.ACT,
) -> Advanced:
    """Order a step."""
    order = StepOrder(
        realm=realm,
        event=event,
        actor=ACTOR,
        at=context.clock().replace(microsecond=0),
        insistence=insistence,
        mode=mode,
    )
    return await take_step(context, order)


async def stand_by(context: Context, realm: str = "prod", purpose: Purpose = Purpose.DEVICE) -> str:
    """Make an issuing CA that stands by, certified by the home's root; return its name."""
    requested = await request_authority(context, AuthorityOrder(realm=realm, purpose=purpose, actor=ACTOR))
    order = IssuingOrder(
        csr_pem=requested.csr_pem,
        common_name=requested.common_name,
        purpose=purpose,
        status_url=context.endpoints.status_url,
    )
    issued = sign_issuing(root_of(context, realm), order, now=utc_now(), randomness=os.urandom)
    certification = Certification(name=requested.record.folder, chain_pem=issued.pem, actor=ACTOR)
    return (await certify_authority(context, certification)).folder


def root_of(context: Context, realm: str) -> Issuer:
    """Open the root of the home."""
    passphrase = Secret(context.home.root_passphrase.read_text().strip())
    return open_root(context.home.authority(realm), fleet=context.fleet, passphrase=passphrase)
