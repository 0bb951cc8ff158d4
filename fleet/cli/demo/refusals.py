"""The demo's impostors: each tries with what it has and is refused, and no rightful device notices."""

from fleet.cli.demo import work
from fleet.cli.demo.intruder import Credentials, let_in, of_device, overstep, refused, self_signed, utc_now
from fleet.cli.demo.network import enroll_stranger
from fleet.cli.demo.scene import DOMAIN, Scene, require


async def refuse_impostors(scene: Scene) -> str:
    """No certificate, a self-signed one, another domain's, and a neighbour's topics."""
    victim, neighbour = scene.devices[0], scene.devices[-1]
    trust, scratch, port = scene.home.server_trust, scene.folder / "impostors", scene.ports["mqtt"]
    how = await refused(Credentials(trust=trust), port, client_id=victim.name)
    scene.tell(f"no certificate: {how}")
    forged = self_signed(victim.name, trust=trust, scratch=scratch / "self-signed", now=utc_now())
    scene.tell(f"a self-signed certificate: {await refused(forged, port, client_id=victim.name)}")
    await _other_domain(scene)
    await _neighbour(scene)
    sessions = await work.live(scene)
    require({victim.name, neighbour.name} <= set(sessions), "a rightful session suffered from an impostor")
    return "no certificate, self-signed, another domain's, a neighbour's topic: all refused, nobody disturbed"


async def _other_domain(scene: Scene) -> None:
    """A good certificate of another domain opens nothing in this one."""
    victim, stranger = scene.devices[0], await enroll_stranger(scene)
    trust, port = scene.home.server_trust, scene.ports["mqtt"]
    shown = of_device(stranger.current, trust=trust, scratch=scene.folder / "impostors" / stranger.device_id)
    await let_in(shown, port, client_id=stranger.name)
    scene.tell(f"another domain's certificate: {await refused(shown, port, client_id=victim.name)}")
    own = f"devices/{stranger.domain}/{stranger.device_id}/hello"
    await _overstep(
        scene, shown, stranger.name, foreign=f"devices/{DOMAIN}/{victim.device_id}/ping2", own=own
    )


async def _neighbour(scene: Scene) -> None:
    """A device that turns on its neighbour, with its own good certificate."""
    victim, neighbour = scene.devices[0], scene.devices[-1]
    require(neighbour.application is not None, f"{neighbour.device_id} is not at work")
    if neighbour.application is not None:
        await neighbour.application.end()
    scratch = scene.folder / "impostors" / neighbour.device_id
    shown = of_device(neighbour.current, trust=scene.home.server_trust, scratch=scratch)
    own = f"devices/{DOMAIN}/{neighbour.device_id}/hello"
    await _overstep(
        scene, shown, neighbour.name, foreign=f"devices/{DOMAIN}/{victim.device_id}/order", own=own
    )
    await work.start(scene, neighbour)


async def _overstep(scene: Scene, shown: Credentials, name: str, *, foreign: str, own: str) -> None:
    how = await overstep(shown, scene.ports["mqtt"], client_id=name, foreign=foreign, own=own)
    await scene.seen.until_topic(own)
    require(foreign not in scene.seen.topics, f"{name} may speak on {foreign}")
    scene.tell(f"{name} on {foreign}: {how}")
