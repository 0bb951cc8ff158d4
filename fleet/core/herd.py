"""What a whole fleet does to its server at once, and what becomes of that by the code that both sides run.

It calls what devices and servers call: the devices' pace (`wire.pace`), the windows that the server chooses
(`windows`) and the drain of a backlog (`backlog`). Pure: chance is an argument, and so is the time.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from device_agent.wire.pace import FIRST_WAIT, back_off
from fleet.core.backlog import Held, drain_of
from fleet.core.profile import Profile
from fleet.core.serial import jitter_of
from fleet.core.windows import Window, choices, emptiest, hour_of

Chance = Callable[[], float]
"""Gives a number from 0 up to 1, another one each time."""

_FOLLOWED, _MANY = 12 * 3600.0, 100
"""Seconds before the end of an outage in which tries are followed one by one, and failures before that."""
_CONNECT_PATIENCE = 10.0
"""Seconds after which an agent gives up a connection that nobody accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """A fleet, and the server that it meets."""

    devices: int
    profile: Profile
    a_second: float
    """The pace at which a backlog is drained."""
    handshakes: int
    """How many connections with TLS the server takes a second."""
    listen_queue: int = 100
    """How many wait to be accepted; who comes then is not answered."""
    followed: int = 100_000
    """So many that connect anew are followed one by one; a larger fleet is taken to be as many times that."""

    @property
    def renewals_a_second(self) -> float:
        """How many renew a second when all is well: each as often as the middle of its window comes."""
        profile = self.profile
        cycle = profile.lifetime * (profile.renew_from + profile.renew_spread / 2)
        return self.devices / cycle.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a server sees: the busiest second, how often it is asked, and how long until all are through."""

    peak: float
    tries: float
    lasts: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Stampede:
    """One thing that happens to a herd: without our windows and back-off, and with them."""

    name: str
    about: str
    devices: int
    before: Load
    after: Load
    ended: int = 0
    """Devices whose certificates end before they are renewed, with our windows."""


def midnight(herd: Herd, chance: Chance, *, now: datetime) -> Stampede:
    """All devices look at midnight whether they are due; or each at the moment that it was told."""
    day = timedelta(days=1)
    due = round(herd.renewals_a_second * day.total_seconds())
    moments = _planned(herd, chance, begins=now, length=day)
    return Stampede(
        name="midnight",
        about="every device renews by a nightly job",
        devices=due,
        before=_load(chance() for _ in range(due)),
        after=_load((moment - now).total_seconds() for moment in moments),
    )


def outage(herd: Herd, chance: Chance, *, now: datetime, length: timedelta) -> Stampede:
    """Nothing can be renewed for so long: then all try within a minute, or as devices and server do."""
    over = length.total_seconds()
    held = sorted(
        (_life(herd.profile, moment, chance), moment)
        for moment in _planned(herd, chance, begins=now, length=length)
    )
    slots = drain_of(
        (Held(not_before=begins, not_after=ends) for (ends, begins), _ in held),
        begins=now + length,
        a_second=herd.a_second,
    )
    renewed, ended = list[float](), 0
    for place, ((ends, _), moment) in enumerate(held):
        asks = _first_after(over, (moment - now).total_seconds(), chance)
        renewed.append(max(asks, (slots.moment(place) - now).total_seconds()))
        ended += (ends - now).total_seconds() < renewed[-1]
    return Stampede(
        name="outage",
        about=f"nothing was renewed for {length.total_seconds() / 3600:g} h",
        devices=len(held),
        before=_load((over + 60 * chance() for _ in held), since=over),
        after=_load(renewed, since=over),
        ended=ended,
    )


def lost_ca(herd: Herd, chance: Chance, *, now: datetime, within: timedelta) -> Stampede:
    """Every certificate is to be replaced: all within a minute of being told, or each at its moment."""
    window = Window(opens=now, closes=now + within)
    moments = (window.at(jitter_of(_serial(chance))) for _ in range(herd.devices))
    return Stampede(
        name="lost CA",
        about=f"every certificate is replaced within {within.total_seconds() / 3600:g} h",
        devices=herd.devices,
        before=Load(peak=herd.devices / 60, tries=herd.devices, lasts=timedelta(minutes=1)),
        after=_load((moment - now).total_seconds() for moment in moments),
    )


def fallen_broker(herd: Herd, chance: Chance) -> Stampede:
    """Every connection ends: all come again every five seconds, or by the devices' back-off."""
    followed = min(herd.devices, herd.followed)
    scale = herd.devices / followed
    tries, connected = _reconnect(
        followed, chance, rate=herd.handshakes / scale, queue=herd.listen_queue / scale
    )
    wait, whole = FIRST_WAIT.total_seconds(), herd.devices / herd.handshakes
    after = _load(tries)
    return Stampede(
        name="fallen broker",
        about=f"every connection ends; {herd.handshakes} a second come up again",
        devices=herd.devices,
        # Half of them wait on average, and each of those tries once in that time.
        before=Load(
            peak=herd.devices / wait, tries=herd.devices * whole / wait / 2, lasts=timedelta(seconds=whole)
        ),
        after=Load(peak=after.peak * scale, tries=after.tries * scale, lasts=timedelta(seconds=connected)),
    )


def _planned(herd: Herd, chance: Chance, *, begins: datetime, length: timedelta) -> Sequence[datetime]:
    """Return the moments in a span of time, as the server has planned them for all who were made before."""
    profile, planned = herd.profile, Counter[datetime]()
    widest = profile.lifetime * profile.renew_spread
    # The first of them fill the hours before, as those did who are not looked at.
    first = begins - profile.lifetime * (profile.renew_from + profile.renew_spread) - widest
    span = length + 2 * widest
    count = round(herd.renewals_a_second * span.total_seconds())
    step, found = span / max(count, 1), []
    for number in range(count):
        born = first + step * number
        moments = choices(profile.window(born, born + profile.lifetime), _serial(chance))
        moment = emptiest(moments, planned)
        planned[hour_of(moment)] += 1
        if begins <= moment < begins + length:
            found.append(moment)
    return found


def _life(profile: Profile, moment: datetime, chance: Chance) -> tuple[datetime, datetime]:
    """Return when a certificate ends and begins that has this moment."""
    begins = moment - profile.lifetime * (profile.renew_from + profile.renew_spread * chance())
    return begins + profile.lifetime, begins


def _first_after(over: float, due: float, chance: Chance) -> float:
    """Return when a device that tries since it is due tries for the first time after the outage."""
    # Who has failed for long waits as long as ever: the last hours tell when the next try is.
    is_old = over - due > _FOLLOWED
    failures, moment = (_MANY, over - _FOLLOWED) if is_old else (0, due)
    while moment < over:
        failures += 1
        moment += back_off(failures, jitter=chance()).total_seconds()
    return moment


def _reconnect(devices: int, chance: Chance, *, rate: float, queue: float) -> tuple[list[float], float]:
    """Return every try to connect, and when the last device is connected."""
    waiting = [(back_off(1, jitter=chance()).total_seconds(), 1) for _ in range(devices)]
    heapq.heapify(waiting)
    tries, free_at = list[float](), 0.0
    while waiting:
        moment, failures = heapq.heappop(waiting)
        tries.append(moment)
        if (free_at - moment) * rate < queue:
            free_at = max(free_at, moment) + 1 / rate
            continue
        again = moment + _CONNECT_PATIENCE + back_off(failures + 1, jitter=chance()).total_seconds()
        heapq.heappush(waiting, (again, failures + 1))
    return tries, free_at


def _load(moments: Iterable[float], *, since: float = 0.0) -> Load:
    seconds, last = Counter[int](), since
    for moment in moments:
        seconds[int(moment)] += 1
        last = max(last, moment)
    return Load(
        peak=max(seconds.values(), default=0),
        tries=seconds.total(),
        lasts=timedelta(seconds=last - since),
    )


def _serial(chance: Chance) -> str:
    return f"{int(chance() * 2**48):012x}{int(chance() * 2**48):012x}"
