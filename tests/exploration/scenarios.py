"""What is explored: each scenario lets a few things go wrong, in every order and at every moment."""

from fleet.model import ClientKind
from tests.exploration.steps import Scenario
from tests.exploration.world import Fault

PLAIN = ClientKind.PLAIN


def _named(*scenarios: Scenario) -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}


def _agent(name: str, *faults: Fault, keys: int = 3, net: int = 2, signing: int = 1) -> Scenario:
    """Return a scenario of a working agent; a fault named twice may happen twice."""
    return Scenario(name=name, budget=_budget(faults), keys=keys, net=net, signing=signing)


def _budget(faults: tuple[Fault, ...]) -> dict[Fault, int]:
    return {fault: faults.count(fault) for fault in faults}


DUE, LOSS, DUPLICATE, CRASH, EARLY = Fault.DUE, Fault.LOSS, Fault.DUPLICATE, Fault.CRASH, Fault.EARLY
LOSE, WIPE, REVOKE, CODE = Fault.LOSE_SLOT, Fault.WIPE, Fault.REVOKE, Fault.NEW_CODE
EXPIRE, GRACE, SUSPEND, RESOLVE = Fault.EXPIRE, Fault.GRACE, Fault.SUSPEND, Fault.RESOLVE
CLONE, SNAPSHOT, ROLLBACK = Fault.CLONE, Fault.SNAPSHOT, Fault.ROLLBACK
TYPED, WRONG, KEY = Fault.CODE, Fault.WRONG_CODE, Fault.LOSE_KEY
ROLL, BUNDLE = Fault.ROLLOVER, Fault.BUNDLE
RESTORE, BARE = Fault.RESTORE, Fault.RESTORE_BARE

AGENTS = _named(
    _agent("core", DUE, LOSS, DUPLICATE, CRASH, net=3, signing=2),
    _agent("core-early", DUE, LOSS, DUPLICATE, CRASH, EARLY, net=3),
    _agent("core-twice", DUE, DUE, LOSS, DUPLICATE, CRASH, keys=4),
    _agent("lost-slot", DUE, DUPLICATE, DUPLICATE, LOSE, keys=4, net=3),
    _agent("reset", DUE, DUPLICATE, CRASH, WIPE, CODE, keys=4),
    _agent("revoke", DUE, LOSS, DUPLICATE, CRASH, REVOKE, net=3),
    _agent("readmit", DUE, DUPLICATE, CRASH, REVOKE, CODE),
    _agent("expire", DUE, EXPIRE, EXPIRE, GRACE, keys=4),
    _agent("expire-crash", DUE, LOSS, CRASH, EXPIRE, GRACE),
    _agent("broker-lost", DUE, LOSS, CRASH, Fault.BROKER_LOST, REVOKE, net=3),
    _agent("rollover", DUE, LOSS, DUPLICATE, CRASH, Fault.ROLLOVER, net=3),
    _agent("retired-root", DUE, DUE, LOSS, DUPLICATE, Fault.ROLLOVER, Fault.BUNDLE, Fault.BUNDLE, keys=4),
    _agent("suspend", DUE, DUPLICATE, CRASH, SUSPEND, EARLY),
    _agent("suspend-end", CRASH, EXPIRE, GRACE, SUSPEND),
    _agent("image", DUE, DUE, SNAPSHOT, ROLLBACK, keys=5),
    _agent("clone", DUE, DUE, CLONE, keys=5, net=1),
    Scenario(
        name="enroll",
        start="claimed",
        budget=_budget((LOSS, DUPLICATE, CRASH, EARLY)),
        keys=2,
        signing=1,
    ),
    Scenario(
        name="enroll-lost",
        start="claimed",
        budget=_budget((DUE, LOSS, CRASH)),
        keys=3,
        net=2,
        signing=1,
    ),
    Scenario(
        name="resolved",
        budget=_budget((DUE, DUE, SNAPSHOT, ROLLBACK, RESOLVE, SUSPEND)),
        keys=6,
        net=1,
        signing=1,
        carries_on=True,
    ),
    Scenario(
        name="replaced",
        budget=_budget((DUE, CLONE, RESOLVE)),
        keys=5,
        net=1,
        signing=1,
        replaces=True,
    ),
    Scenario(
        name="thief",
        start="thief",
        budget=_budget((DUPLICATE, CRASH, RESOLVE, RESOLVE)),
        keys=4,
        net=2,
        signing=1,
        replaces=True,
    ),
)


def _plain(
    name: str, *faults: Fault, keys: int = 4, same_key: bool = False, start: str = "working"
) -> Scenario:
    return Scenario(
        name=name,
        budget=_budget(faults),
        start=start,
        kind=PLAIN,
        same_key=same_key,
        keys=keys,
        net=2,
        signing=1,
    )


PLAINS = _named(
    _plain("plain", DUE, DUPLICATE, CRASH, LOSE),
    _plain("plain-suspend", DUE, DUPLICATE, CRASH, SUSPEND),
    _plain("plain-expire", DUE, LOSS, EXPIRE, GRACE, keys=3),
    _plain("same-key", DUE, DUE, DUPLICATE, CRASH, LOSE, keys=2, same_key=True),
    _plain("same-revoke", DUE, DUPLICATE, CRASH, REVOKE, SUSPEND, keys=2, same_key=True),
    _plain("same-expire", DUE, DUPLICATE, EXPIRE, GRACE, keys=2, same_key=True),
    _plain("box", DUE, DUPLICATE, CRASH, SUSPEND, keys=2, same_key=True, start="claimed"),
    _plain("box-expire", DUPLICATE, LOSS, EXPIRE, keys=2, same_key=True, start="claimed"),
    _plain("box-revoke", DUE, DUPLICATE, CRASH, REVOKE, keys=3, start="claimed"),
)

# Each rung of the ladder of recovery, with what can happen on it. Worlds apart: their product is too large.
RECOVERIES = _named(
    _agent("typed-code", DUE, LOSS, CRASH, TYPED, keys=4),
    _agent("typed-twice", DUE, LOSS, TYPED, TYPED, keys=5, net=1),
    _agent("wrong-code", DUE, LOSS, DUPLICATE, WRONG, keys=4),
    _agent("wrong-right", LOSS, WRONG, TYPED, EXPIRE, keys=6, net=1),
    _agent("expired-code", LOSS, EXPIRE, GRACE, TYPED, keys=5),
    _agent("late-code", DUPLICATE, EXPIRE, GRACE, TYPED, keys=5),
    _agent("lost-key", DUE, LOSS, DUPLICATE, KEY, TYPED, keys=4),
    _agent("lost-key-grace", CRASH, EXPIRE, GRACE, KEY, TYPED, keys=4, net=1),
    _agent("suspend-code", LOSS, CRASH, SUSPEND, TYPED, keys=3),
    _agent("revoke-code", LOSS, CRASH, REVOKE, TYPED, keys=3),
    _agent("image-expire", DUE, SNAPSHOT, ROLLBACK, EXPIRE, GRACE, keys=6, net=1),
    _agent("image-code", DUE, SNAPSHOT, ROLLBACK, TYPED, keys=6, net=1),
    _agent("clone-expire", DUE, CLONE, EXPIRE, GRACE, keys=6, net=1),
    _agent("clone-code", DUE, CLONE, TYPED, keys=5, net=1),
    _agent("roll-expire", DUE, LOSS, ROLL, BUNDLE, EXPIRE, GRACE, keys=5, net=1),
    _agent("roll-code", DUE, LOSS, ROLL, BUNDLE, BUNDLE, TYPED, keys=4, net=1),
    _agent("roll-image", DUE, ROLL, BUNDLE, SNAPSHOT, ROLLBACK, keys=4),
    _agent("restored", DUE, LOSS, DUPLICATE, RESTORE, keys=4),
    _agent("restored-crash", DUE, CRASH, EARLY, RESTORE, keys=4),
    _agent("restored-revoke", DUE, LOSS, REVOKE, TYPED, RESTORE, keys=5, net=1),
    _agent("restored-code", LOSS, DUPLICATE, TYPED, RESTORE, keys=4),
    _agent("restored-expire", DUE, LOSS, EXPIRE, GRACE, RESTORE, keys=4, net=1),
    _agent("restored-roll", DUE, LOSS, ROLL, BUNDLE, RESTORE, keys=4),
    _agent("restored-bare", DUE, LOSS, DUPLICATE, BARE, keys=4),
    _agent("bare-code", DUE, LOSS, BARE, TYPED, keys=5),
    Scenario(
        name="restored-enroll", start="claimed", budget=_budget((LOSS, DUPLICATE, RESTORE)), keys=2, signing=1
    ),
)

WIDE = AGENTS | PLAINS | RECOVERIES

DEEP = _named(
    _agent("deep-core", DUE, LOSS, LOSS, DUPLICATE, DUPLICATE, CRASH, CRASH, EARLY, net=3),
    _agent("deep-expire", DUE, CRASH, EXPIRE, EXPIRE, GRACE, keys=4),
    _agent("deep-image", DUE, DUE, LOSS, DUPLICATE, SNAPSHOT, ROLLBACK, keys=5),
    _agent("deep-clone", DUE, DUE, DUPLICATE, CLONE, keys=5),
    _agent("deep-suspend", DUE, LOSS, CRASH, EXPIRE, GRACE, SUSPEND),
    _plain("deep-plain", DUE, DUE, DUPLICATE, CRASH, LOSE),
    _agent("deep-code", LOSS, CRASH, EXPIRE, GRACE, TYPED, WRONG, keys=6, net=1),
    _agent("deep-key", DUE, LOSS, CRASH, KEY, TYPED, TYPED, keys=5, net=1),
    _agent("deep-image-code", DUE, DUE, LOSS, SNAPSHOT, ROLLBACK, EXPIRE, GRACE, TYPED, keys=7, net=1),
    _agent("deep-clone-code", DUE, CLONE, EXPIRE, GRACE, TYPED, keys=6, net=1),
    _agent("deep-roll", DUE, LOSS, ROLL, BUNDLE, BUNDLE, EXPIRE, GRACE, TYPED, keys=5, net=1),
    _agent("deep-restored", DUE, LOSS, CRASH, ROLL, BUNDLE, REVOKE, TYPED, RESTORE, keys=4, net=1),
)
"""Minutes to hours, and gigabytes: `make explore` visits them all, `make explore WORLDS=deep-core` one."""
