"""`python -m firmware_scripts.linux`: writes the overlay archive that an image build unpacks at its root."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_scripts.linux.overlay import Batch, Init, archive, entries

_EXIT_BAD_INPUT = 6
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,253}:[0-9]{1,5}", re.ASCII)
_CERTIFICATE, _PRIVATE_KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
_ID_PREFIX = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_:-]{0,31})?", re.ASCII)


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.linux", description=__doc__)
    made.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="the bootstrap listener")
    made.add_argument("--trust", required=True, type=Path, metavar="PEM", help="what the server is known by")
    made.add_argument("--claim", required=True, metavar="CERT,KEY", help="the claim certificate of the batch")
    made.add_argument("--id-prefix", default="", metavar="TEXT", help="put before each machine's own number")
    made.add_argument(
        "--init",
        choices=list(Init),
        type=Init,
        default=Init.SYSTEMD,
        help="what starts services there: procd on OpenWrt (default: systemd)",
    )
    made.add_argument(
        "--agent", type=Path, metavar="PYZ", help="the agent as a zipapp, where no package brings it"
    )
    made.add_argument("--output", required=True, type=Path, metavar="TAR", help="the archive to write")
    return made


def batch_of(arguments: argparse.Namespace) -> Batch:
    """Return the checked batch; raises ValueError with what to do."""
    if not _HOST_AND_PORT.fullmatch(arguments.bootstrap):
        raise ValueError("--bootstrap must be HOST:PORT")
    if not _ID_PREFIX.fullmatch(arguments.id_prefix):
        raise ValueError("--id-prefix must be at most 32 of A-Z a-z 0-9 _ : - and start with no sign")
    certificate, comma, key = arguments.claim.partition(",")
    if not comma:
        raise ValueError("--claim must be CERT,KEY: two files")
    _must_hold_certificates(arguments.trust, option="--trust")
    _must_hold_certificates(Path(certificate), option="--claim")
    if _PRIVATE_KEY not in Path(key).read_bytes():
        raise ValueError(f"--claim CERT,KEY: {key} holds no private key in PEM")
    return Batch(
        bootstrap=arguments.bootstrap,
        trust=arguments.trust,
        claim_certificate=Path(certificate),
        claim_key=Path(key),
        id_prefix=arguments.id_prefix,
        init=arguments.init,
        agent=arguments.agent,
    )


def _must_hold_certificates(path: Path, *, option: str) -> None:
    """What all images of a batch have for all to read is a certificate: not the key, nor another file."""
    content = path.read_bytes()
    if _CERTIFICATE not in content or _PRIVATE_KEY in content:
        raise ValueError(f"{option}: {path} must hold certificates in PEM, and no key")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the archive; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        _write_private(arguments.output, archive(entries(batch_of(arguments))))
    except (ValueError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    print(f"wrote {arguments.output}: unpack it at the root of the image", file=sys.stderr)
    return 0


def _write_private(path: Path, content: bytes) -> None:
    """The archive holds the claim's key: only its owner may read it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
