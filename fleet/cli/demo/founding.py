"""First steps of the demo: a fleet home, and a server with its broker, as real processes."""

import re

from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.cli.demo.programs import command
from fleet.cli.demo.scene import DOMAIN, OTHER_DOMAIN, Scene, require
from fleet.cli.demo.witness import watching
from fleet.home import Home

_ANY_PORT = re.compile(r"^(\w+_port) = \d+", re.MULTILINE)


async def make_home(scene: Scene) -> str:
    """`fleet init`: two security domains; free ports, and a broker that ends with the server."""
    await scene.fleet("init", "--name", "demo", "--domain", DOMAIN, "--domain", OTHER_DOMAIN, name="init")
    text = _ANY_PORT.sub(r"\1 = 0", scene.home.config.read_text())
    text = text.replace("stop_with_server = false", "stop_with_server = true")
    scene.home.config.write_text(text)
    found = (await scene.fleet("cert", "list", "--purpose", "authority", "--json", name="cert-list")).json()
    require(isinstance(found, list) and len(found) >= 2, "init made no authorities")
    count = len(found) if isinstance(found, list) else 0
    return f"domains {DOMAIN} and {OTHER_DOMAIN}, {count} roots and issuing CAs, all keys encrypted"


async def end_broker(home: Home) -> None:
    """End a Mosquitto that the server has left behind: it does so when it is killed, and on purpose."""
    process = MosquittoProcess(Paths(folder=home.broker))
    left = process.find()
    if left is not None:
        await process.stop(left)


async def start_server(scene: Scene) -> str:
    """`fleet serve`: wait for its `ready`, learn its ports and which broker it is."""
    server = await scene.programs.start(command("fleet"), "--home", scene.home.root, "serve", name="serve")
    line = await server.line()
    require(line == "ready", f"the server said {line!r} instead of ready")
    scene.read_endpoints()
    scene.witness = await scene.stack.enter_async_context(watching(scene.home, scene.ports["mqtt"]))
    shown = (await scene.fleet("broker", "show", "--json", name="broker-show")).members()
    broker = {"mosquitto": "Mosquitto with the guard", "embedded": "the embedded broker"}[
        str(shown["driver"])
    ]
    return f"{broker}, mTLS at port {scene.ports['mqtt']}, enrollment at port {scene.ports['mqtt_bootstrap']}"
