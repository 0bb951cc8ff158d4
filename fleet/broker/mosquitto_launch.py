"""Brings one Mosquitto up, guarded, or finds the one that an earlier run of ours left behind.

It writes all of its files before it starts it, and never starts it without the guard.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fleet.broker.adopted import joined, read_if_there
from fleet.broker.guard import build
from fleet.broker.list_files import ListFiles
from fleet.broker.listing import whole_list
from fleet.broker.mosquitto_config import Paths, config_text
from fleet.broker.mosquitto_process import MosquittoProcess, Running, find_program, free_ports
from fleet.broker.second_layer import CrlFile, file_text, read_issuers, verified
from fleet.broker.service_entry import own_entry
from fleet.broker.settings import BrokerEndpoints, BrokerFiles, Listeners, Mode
from fleet.core.access import compiled
from fleet.errors import FleetError, NeedsAttentionError, UnreachableError
from fleet.files import make_folder, write_file
from fleet.grants import Classes
from fleet.model import Allowlist
from fleet.ports import Clock

ALARM_AFTER_S = 3600
"""After so long without confirmation the guard complains of the age of its list."""

_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class MosquittoLaunch:
    """The files and the process of one Mosquitto."""

    def __init__(
        self, files: BrokerFiles, listeners: Listeners, *, mode: Mode, clock: Clock, classes: Classes
    ) -> None:
        self.paths = Paths(folder=files.folder)
        self.lists = ListFiles(files.folder)
        self._files = files
        self._listeners = listeners
        self._mode = mode
        self._clock = clock
        self._classes = classes
        self._process = MosquittoProcess(self.paths)
        self._verified: dict[Path, bytes] = {}
        """What our own issuing CAs revoked, for each listener's file."""
        self._running: Running | None = None
        self._turn = asyncio.Lock()
        """One start or stop at a time: what is being stopped must not be revived."""

    async def up(self, crls: Sequence[bytes]) -> BrokerEndpoints:
        """Bring it up, and return where it listens.

        Raises:
            FleetError: the guard cannot be built, a CRL is not right, a port is taken, or it did not start.
        """
        await asyncio.to_thread(self._prepare, crls)
        guard = await asyncio.to_thread(build.build, self._files.folder)
        if self._mode is Mode.EXTERNAL:
            self._write_config(guard)
        elif not await self._adopt(guard):
            await self._start(guard)
        return self.endpoints

    @property
    def is_ours(self) -> bool:
        """Say whether we start and stop it, and can make it read its files."""
        return self._mode is Mode.MANAGED

    @property
    def endpoints(self) -> BrokerEndpoints:
        """Where it listens."""
        return BrokerEndpoints(
            host=self._listeners.host,
            operational_port=self._listeners.operational_port,
            bootstrap_port=self._listeners.bootstrap_port,
        )

    async def revive(self) -> bool:
        """Start it again if its process has fallen; return whether it had. One that was stopped stays so."""
        async with self._turn:
            if self._running is None or self._process.is_alive(self._running):
                return False
            await self._start(await asyncio.to_thread(build.build, self._files.folder))
            return True

    async def stop(self) -> None:
        """End a managed process."""
        async with self._turn:
            if self._running is not None:
                running, self._running = self._running, None
                await self._process.stop(running)

    def reload(self) -> None:
        """Make it read certificates, roots and CRLs again: what is gone from the files is gone there too.

        Raises:
            NeedsAttentionError: it is not our process.
        """
        if self._running is None:
            raise NeedsAttentionError(
                "the broker must be made to read its files again", hint="systemctl reload mosquitto"
            )
        self._process.reload(self._running)

    def write_crls(self, crls: Sequence[bytes]) -> None:
        """Verify the CRLs of all issuing CAs, then swap the listeners' files.

        Raises:
            BadInputError: one is not right; the files stay as they were.
        """
        files = (
            CrlFile(path=self.paths.operational_crl, issuers=read_issuers(self._files.operational_issuers)),
            CrlFile(path=self.paths.bootstrap_crl, issuers=read_issuers(self._files.bootstrap_issuers)),
        )
        issuers = [issuer for file in files for issuer in file.issuers]
        by_issuer = verified(crls, issuers, now=self._clock())
        self._verified = {file.path: file_text(file, by_issuer) for file in files}
        self.write_trust()

    def write_trust(self) -> None:
        """Write the operational listener's roots, and all CRLs, with those of adopted CAs as they are now.

        A CRL that is not ours is not judged here: an old one shuts its CA's devices out, and nobody else's.

        Raises:
            FleetError: a file cannot be read or written.
        """
        adopted, operational = self._files.adopted, self.paths.operational_crl
        authorities = None if adopted is None else adopted.authorities
        roots = joined(self._files.operational_roots, authorities)
        write_file(self.paths.operational_trust, roots)
        for path, text in self._verified.items():
            foreign = adopted.crls if adopted and path == operational else None
            write_file(path, text + read_if_there(foreign))

    def write_rules(self, classes: Classes) -> str:
        """Write what certificates may do, for the guard to read; return the SHA-256 of it, in hex."""
        text = compiled(classes).encode()
        write_file(self.paths.rules, text)
        self._classes = classes
        return hashlib.sha256(text).hexdigest()

    def admit_only_ourselves(self) -> None:
        """Write a list of one: the whole one is on its way."""
        own = Allowlist(sequence=0, entries=(own_entry(self._files.service_certificate),))
        _, text = whole_list(own, generation=secrets.token_hex(8))
        self.lists.replace(text)

    def _prepare(self, crls: Sequence[bytes]) -> None:
        make_folder(self._files.folder)
        make_folder(self.paths.messages)
        self.write_crls(crls)
        self.write_rules(self._classes)
        if not self.lists.whole.exists():
            self.admit_only_ourselves()

    async def _adopt(self, guard: Path) -> bool:
        found = self._process.find()
        if found is None:
            return False
        if self._takes(found):
            self._take_ports(found.operational_port, found.bootstrap_port)
            if found.fingerprint == self._write_config(guard):
                self._running = found
                self._process.reload(found)
                return True
        _log.warning("the broker is started anew: its configuration changed")
        await self._process.stop(found)
        return False

    def _takes(self, found: Running) -> bool:
        """Say whether a broker that runs listens where we were told; 0 takes any port."""
        wanted = self._listeners
        return wanted.operational_port in {0, found.operational_port} and wanted.bootstrap_port in {
            0,
            found.bootstrap_port,
        }

    def _take_ports(self, operational_port: int, bootstrap_port: int) -> None:
        self._listeners = replace(
            self._listeners, operational_port=operational_port, bootstrap_port=bootstrap_port
        )

    async def _start(self, guard: Path) -> None:
        program = find_program()
        if program is None:
            raise UnreachableError("mosquitto is not installed", hint=f"apt-get install {build.PACKAGES}")
        wanted = self._listeners
        for attempt in range(_ATTEMPTS):
            ports = free_ports(wanted.bind, (wanted.operational_port, wanted.bootstrap_port))
            self._take_ports(*ports)
            try:
                self._running = await self._process.start(
                    program,
                    fingerprint=self._write_config(guard),
                    operational_port=ports[0],
                    bootstrap_port=ports[1],
                )
            except UnreachableError:
                # A port that was free a moment ago may be somebody else's by now.
                if attempt + 1 == _ATTEMPTS or 0 not in {wanted.operational_port, wanted.bootstrap_port}:
                    raise
            else:
                return

    def _write_config(self, guard: Path) -> str:
        """Write mosquitto.conf, and return a fingerprint of all that only a new start takes in."""
        text = config_text(self._files, self._listeners, guard=guard, alarm_after_s=ALARM_AFTER_S)
        write_file(self.paths.config, text.encode())
        digest = hashlib.sha256(text.encode())
        try:
            digest.update(guard.read_bytes())
        except OSError as error:
            raise FleetError(f"the broker's files cannot be read: {error.filename}") from error
        return digest.hexdigest()
