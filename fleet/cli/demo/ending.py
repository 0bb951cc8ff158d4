"""Last steps of the demo: a device is revoked, and the audit trail is checked, also after a forgery."""

import shutil
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

from cryptography import x509

from fleet.cli.demo import work
from fleet.cli.demo.intruder import of_device, refused
from fleet.cli.demo.programs import command
from fleet.cli.demo.scene import Scene, require
from fleet.cli.output import items_of
from fleet.errors import ExitCode

_HTTP_SECONDS = 10


async def revoke_one(scene: Scene) -> str:
    """`fleet cert revoke`: the live session ends, the certificate opens nothing, the CRL names it."""
    device = scene.devices[1]
    serial = (await scene.status(device))["serial"]
    reason = ("--reason", "keyCompromise")
    done = await scene.fleet("cert", "revoke", "--device", device.name, *reason, "--json", name="revoke")
    receipt = done.members()
    sessions = [one for one in items_of(receipt["sessions"]) if one["name"] == device.name]
    require(len(sessions) == 1, f"{device.device_id} was connected, and the receipt names no session of it")
    require(receipt["verified"] is True, f"the revocation is not verified: {receipt['problem']}")
    require(device.name not in await work.live(scene), f"{device.device_id} is still connected")
    scratch = scene.folder / "impostors" / f"{device.device_id}-revoked"
    shown = of_device(device.current, trust=scene.home.server_trust, scratch=scratch)
    scene.tell(f"its certificate: {await refused(shown, scene.ports['mqtt'], client_id=device.name)}")
    await scene.fleet(
        "cert", "verify", device.current / "cert.pem", name="cert-verify", code=ExitCode.REFUSED
    )
    require(serial in _listed(scene, shown.certificate), "the CRL does not name it")
    return f"{device.device_id} was cut off after {sessions[0]['cut_off_ms']} ms, and is on the CRL"


def _listed(scene: Scene, certificate: Path | None) -> set[str]:
    """Return the serials on the CRL that a certificate points to, as a relying party would."""
    assert certificate is not None  # noqa: S101 - a device's credentials have one
    leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    address = f"http://localhost:{scene.ports['http']}/crl/{named.hex()}.crl"
    with urllib.request.urlopen(address, timeout=_HTTP_SECONDS) as answer:
        crl = x509.load_der_x509_crl(answer.read())
    return {f"{entry.serial_number:032x}" for entry in crl}


async def check_audit(scene: Scene) -> str:
    """`fleet audit verify`: whole; and a copy in which one entry was changed is caught."""
    whole = (await scene.fleet("audit", "verify", "--json", name="audit-verify")).members()
    copy = scene.folder / "forged"
    _copy_home(scene, copy)
    number = _forge(copy / scene.home.database.name)
    scene.tell(f"in a copy, entry {number} was laid at somebody else's door")
    verify = (command("fleet"), "--home", copy, "audit", "verify", "--json")
    forged = await scene.programs.run(*verify, name="audit-verify-forged", code=ExitCode.NEEDS_ATTENTION)
    findings = items_of(forged.members()["findings"])
    caught = any(finding["first"] == number == finding["last"] for finding in findings)
    require(caught, f"nothing was found at entry {number}, which was changed")
    return f"{whole['size']} entries are whole; the entry that was changed in a copy, {number}, was caught"


def _copy_home(scene: Scene, copy: Path) -> None:
    """Copy the home as it stands; the database by its own means, because the server goes on writing."""
    live = scene.home.database
    left_out = shutil.ignore_patterns("run", "broker", f"{live.name}*")
    shutil.copytree(scene.home.root, copy, ignore=left_out)
    with closing(sqlite3.connect(live)) as source, closing(sqlite3.connect(copy / live.name)) as target:
        source.backup(target)


def _forge(database: Path) -> int:
    """Change who did something, as somebody with write access to the file could; return which entry."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (number,) = connection.execute(
            "SELECT max(number) FROM audit_entries WHERE action = 'certificate.revoked'"
        ).fetchone()
        connection.execute("UPDATE audit_entries SET actor = 'operator:mallory' WHERE number = ?", (number,))
    return int(number)
