"""Homes that are backed up in tests: a desk whose trail is signed, its backups, its trail kept elsewhere."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from fleet.ca.auditkey import load_audit_signer
from fleet.ca.shares import Quorum
from fleet.home import Home
from fleet.ra.keeping.backup import Backup, BackupOrder, make_backup, new_backup_id
from fleet.ra.keeping.restore import Restored, RestoreOrder, restore
from fleet.ra.people import audits
from fleet.ra.people.trail import trail_of
from fleet.store.seal import AuditSeal
from tests.desk import Desk, MovedClock, at_desk
from tests.homes import FleetHome

Rows = Mapping[str, list[tuple[object, ...]]]


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """A desk in a home of its own, and what is kept of it elsewhere."""

    desk: Desk
    home: Home
    elsewhere: Path

    def back_up(self, name: str = "one.backup") -> Backup:
        """Back the home up as it stands, although its server runs."""
        order = BackupOrder(
            backup_id=new_backup_id(os.urandom),
            quorum=Quorum(needed=2, count=3),
            now=self.desk.clock(),
            randomness=os.urandom,
        )
        return make_backup(self.home, order, out=self.elsewhere / name)

    async def keep_trail(self, name: str = "trail.jsonl", *, after: int = -1) -> Path:
        """Return a file with what `fleet audit export` prints."""
        path, context = self.elsewhere / name, self.desk.context
        lines = [line async for line in audits.export(trail_of(context), after=after)]
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    async def restore(self, backup: Backup, trail: Path | None, *, name: str = "restored") -> Restored:
        """Restore with the last two shares."""
        order = RestoreOrder(
            archive=backup.path,
            shares=backup.key.shares[-2:],
            into=self.elsewhere / name,
            trail=trail,
            actor="operator:test",
        )
        return await restore(order, clock=self.desk.clock)


@asynccontextmanager
async def keeping(fleet_home: FleetHome, folder: Path) -> AsyncIterator[Keeper]:
    """Open a desk on a copy of a home that can be backed up."""
    home = Home(folder / "home")
    shutil.copytree(fleet_home.home.root, home.root)
    own = FleetHome(home=home, authority=fleet_home.authority, made_at=fleet_home.made_at)
    elsewhere, store = folder / "elsewhere", folder / "store"
    elsewhere.mkdir()
    store.mkdir()
    clock = MovedClock(fleet_home.made_at)
    seal = AuditSeal(log="acme", sign=load_audit_signer(home.audit_key), clock=clock)
    async with at_desk(own, store, seal=seal) as desk:
        clock.now = desk.clock()
        # The desk works on its own copy: a backup finds it where the home has its database.
        home.database.unlink()
        home.database.symlink_to(store / "fleet.db")
        yield Keeper(desk=desk, home=home, elsewhere=elsewhere)


def rows_of(database: Path) -> Rows:
    """Return every row of every table, but for what a restore adds to or cannot know."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        found = {}
        for name in sorted(set(names) - _NOT_COMPARED):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            kept = [one for one in columns if (name, one) not in _UNKNOWN]
            query = f"SELECT {', '.join(kept)} FROM {name} ORDER BY {', '.join(kept)}"
            found[name] = connection.execute(query).fetchall()
    return found


_NOT_COMPARED = {
    "allowlist_changes",
    "answers",
    "audit_details",
    "audit_entries",
    "audit_heads",
    "audit_peaks",
    "counters",
    "meta",
    "proofs",
    "renewal_hours",
    "requests",
    "root_crls",
    "schema_migrations",
}
_UNKNOWN = {
    ("certificates", "der"),
    ("codes", "code_hash"),
    ("codes", "expires_at"),
    ("codes", "created_at"),
    ("holds", "since"),
    ("revocations", "since"),
}


def differences(restored: Path, lost: Path) -> list[str]:
    """Return every row that the two databases do not share, for a test to want none."""
    ours, theirs = rows_of(restored), rows_of(lost)
    found = [f"{name} + {row}" for name in ours for row in ours[name] if row not in theirs[name]]
    return found + [f"{name} - {row}" for name in theirs for row in theirs[name] if row not in ours[name]]
