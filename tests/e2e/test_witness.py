"""The whole service and a witness that its configuration names: shown the trail over HTTPS, and believed."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.ca.checkpointkey import checkpoint_signer
from fleet.config import parse
from fleet.ra.keeping.witnessing import ask
from fleet.store import witnesses
from tests.live import live, make_live_home
from tests.pki import Authority, pem_of
from tests.waiting import until
from tests.witness import MemoryWitness

GUIDE = Path(__file__).parents[2] / "docs/how-to/hand-evidence-to-an-auditor.md"


@asynccontextmanager
async def served(witness: MemoryWitness, folder: Path) -> AsyncIterator[str]:
    """Serve a witness on a free port of loopback; its root is `witness-root.pem` in the folder."""

    async def add_checkpoint(request: web.Request) -> web.Response:
        status, body = witness.answer(await request.read())
        return web.Response(status=status, body=body)

    root = Authority.root("Auditor Root")
    usages = (ExtendedKeyUsageOID.SERVER_AUTH,)
    files = root.leaf("localhost", usages=usages, hosts=("localhost",)).write(folder, "witness")
    (folder / "witness-root.pem").write_bytes(pem_of(root.certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*files)
    app = web.Application()
    app.router.add_post("/acme/add-checkpoint", add_checkpoint)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=tls).start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}/acme"
    finally:
        await runner.cleanup()


async def test_a_service_has_its_trail_witnessed(tmp_path: Path) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="embedded")
    witness = MemoryWitness()
    folder = tmp_path / "witness"
    folder.mkdir()
    async with served(witness, folder) as url:
        config = home.home.config
        config.write_text(
            f'{config.read_text()}\n[audit.witness.auditor]\nurl = "{url}"\nkey = "{witness.key}"\n'
            f'trust = "{folder / "witness-root.pem"}"\nprivate_hosts = ["localhost"]\n'
        )
        signer = checkpoint_signer(
            home.home.checkpoint_key, fleet="acme", audit_public=home.home.audit_public_key
        )
        witness.log_key = signer.key.text()
        async with live(home, tmp_path) as fleet:
            await until(lambda: witness.size > 0)
            await fleet.enrolled("d1")
            for one in fleet.context.witnesses:
                await ask(fleet.context, one, None)
            (record,) = await fleet.context.store.read(witnesses.witnesses, None)
    assert (record.name, record.problem, record.size) == ("auditor", "", witness.size)


def test_the_configuration_that_the_guide_shows_is_one() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (witness,) = parse(f'{shown}\n[fleet]\nname = "acme"\n[domains.prod]\n').witnesses
    assert (witness.name, witness.key.name) == ("auditor", "witness.example.org/w1")
