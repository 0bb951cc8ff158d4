"""What the kit knows of the device on its line, as it goes from check to check."""

from dataclasses import dataclass, field

from cryptography import x509

from device_agent.wire.factory import NONCE_BYTES, proof_text, station_text
from device_agent.wire.factory_replies import HelloReply, ReadReply, Refusal
from device_agent.wire.factory_requests import Hello, Install, Read, Request, Write
from device_agent.wire.objects import ObjectHashes, ObjectId, ReadableId, encode_certificates
from fleet.cli.conformance.check import Failure
from fleet.cli.conformance.link import Link, Talk
from fleet.cli.conformance.workshop import Pair, Workshop
from fleet.station.keeping.package import Package
from fleet.station.link.evidence import is_proof_right

_NONCE = bytes(range(NONCE_BYTES))
_PIECE = 96
"""Small enough for any device: 256 octets a message is what Zephyr takes."""


@dataclass(slots=True, kw_only=True)
class Device:
    """The device under test."""

    link: Link
    workshop: Workshop
    device_id: str
    """What it is enrolled as, where it does not ask for an id itself."""
    talk: Talk = field(default_factory=Talk.begun)
    _hello: HelloReply | None = None
    csr: bytes = b""
    _package: Package | None = None

    @property
    def hello(self) -> HelloReply:
        if self._hello is None:
            raise Failure("HELLO was not answered")
        return self._hello

    @property
    def package(self) -> Package:
        """What the device is given."""
        if self._package is None:
            raise Failure("there is no certificate yet")
        return self._package

    @property
    def wanted_id(self) -> str:
        """The id that the device has or asks for, or else the kit's."""
        return self.hello.device_id or self.device_id

    async def begin(self) -> HelloReply:
        """Open a new session."""
        self.talk = Talk.begun()
        reply = await self.link.ask(self.talk, Hello(nonce=_NONCE))
        if not isinstance(reply, HelloReply):
            raise Failure("HELLO is answered as another command")
        self._hello = reply
        return reply

    async def read_csr(self, length: int) -> bytes:
        """Return the request, in pieces."""
        octets = b""
        while len(octets) < length:
            piece = await self.link.ask(
                self.talk, Read(object_id=ReadableId.CSR, offset=len(octets), length=_PIECE)
            )
            if not isinstance(piece, ReadReply) or not piece.octets:
                raise Failure(f"READ at {len(octets)} of {length} gives nothing")
            octets += piece.octets
        return octets

    def issue(self) -> None:
        """Have a certificate made for the request."""
        key = x509.load_der_x509_csr(self.csr).public_key()
        self._package = self.package_for(self.workshop.device(self.wanted_id, key))

    def package_for(self, leaf: x509.Certificate, *, hardware_id: str = "") -> Package:
        """Return a package with a leaf, for this unit or another."""
        return self.workshop.package(
            hardware_id=hardware_id or self.hello.hardware_id,
            device_id=self.wanted_id,
            csr=self.csr,
            leaf=leaf,
        )

    async def write(self, package: Package) -> None:
        """Write the objects of a package, in pieces."""
        for object_id, octets in package.objects.items():
            await self.write_object(object_id, octets)
        await self.write_signer(self.workshop.station, self.workshop.servers)

    async def write_signer(self, station: Pair, issuer: Pair) -> None:
        """Write the chain of the station whose signature INSTALL will carry."""
        chain = encode_certificates((station.der, issuer.der))
        await self.write_object(ObjectId.STATION_CHAIN, chain)

    async def write_object(self, object_id: ObjectId, octets: bytes) -> None:
        """Write one object."""
        for offset in range(0, len(octets), _PIECE):
            piece = Write(object_id=object_id, offset=offset, octets=octets[offset : offset + _PIECE])
            await self.link.ask(self.talk, piece)

    def install(
        self, package: Package, *, hashes: ObjectHashes | None = None, signer: Pair | None = None
    ) -> Install:
        """Return the order to install a package, signed by the kit's station, or by another."""
        found = hashes or package.hashes
        station = signer or self.workshop.station
        text = station_text(self.talk.session, device_nonce=self.hello.nonce, hashes=found)
        return Install(hashes=found, signature=station.sign(text), station_chain=())

    def is_proof(self, signature: bytes, *, nonce: bytes) -> bool:
        """Return whether the device signed what PROVE is to sign."""
        signed = proof_text(
            self.talk.session,
            station_nonce=nonce,
            device_nonce=self.hello.nonce,
            hashes=self.package.hashes,
            fingerprint=self.package.fingerprint,
        )
        return is_proof_right(self.package.leaf, signature=signature, signed=signed)

    async def refused(self, request: Request, *, rcs: tuple[int, ...], what: str) -> None:
        """Require that a call is refused, with one of these numbers."""
        reply = await self.link.judge(self.talk, request)
        if not isinstance(reply, Refusal):
            raise Failure(f"{what} is accepted")
        if reply.rc not in rcs:
            wanted = " or ".join(str(int(rc)) for rc in rcs)
            raise Failure(f"{what} is refused with rc {reply.rc}, and should be with rc {wanted}")
