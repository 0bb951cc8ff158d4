"""What certificates may do: the policy in force, with what is known of each class of them."""

from fleet.access_file import DEFAULT_TEXT, parse
from fleet.core.policy import Facts, Policy, grants_of
from fleet.grants import Action, Classes, Effect, Grant, GrantSet
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.store import access_classes
from fleet.store.access_policies import newest_policy
from fleet.store.backends import BackendRecord, list_backends

SOURCE = "access.toml"


async def policy_in_force(tx: Transaction, _argument: None) -> Policy:
    """Return the access policy; the default one where nobody wrote any."""
    record = await newest_policy(tx, None)
    return parse(DEFAULT_TEXT if record is None else record.text, source=SOURCE)


async def classes_in_force(tx: Transaction, _argument: None) -> Classes:
    """Return what every class of certificates may do with topics."""
    policy = await policy_in_force(tx, None)
    known = await access_classes.classes(tx, None)
    backends = {each.name: each for each in await list_backends(tx, None)}
    return {number: _granted(policy, facts, backends) for number, facts in known.items()}


async def grants_of_serial(tx: Transaction, serial: str) -> GrantSet:
    """Return what a certificate of a device may do with topics."""
    facts = await access_classes.facts_of_serial(tx, serial)
    return grants_of(await policy_in_force(tx, None), facts)


def scope_of(backend: BackendRecord) -> GrantSet:
    """Return what a backend may do with topics."""
    heard = (Grant(effect=Effect.ALLOW, action=Action.SUBSCRIBE, pattern=each) for each in backend.reads)
    told = (Grant(effect=Effect.ALLOW, action=Action.PUBLISH, pattern=each) for each in backend.writes)
    return GrantSet(purpose=Purpose.BACKEND, grants=(*heard, *told))


def _granted(policy: Policy, facts: Facts, backends: dict[str, BackendRecord]) -> GrantSet:
    for name in facts.get(access_classes.BACKEND, ()):
        backend = backends.get(name)
        nothing = GrantSet(purpose=Purpose.BACKEND)
        return nothing if backend is None or backend.revoked_at is not None else scope_of(backend)
    return grants_of(policy, facts)
