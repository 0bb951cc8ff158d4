"""The guide to notifications, followed as a reader would: configuration, commands, verification."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.hook import SECRET, receiving
from tests.post_office import PASSWORD, USER, PostOffice, post_office
from tests.unit.fleet.carriers.test_webhook import saying

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/tell-people.md"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def configuration(office: PostOffice, url: str, folder: Path) -> str:
    """Return the page's configuration, with a mail server and a webhook that are here."""
    text = block("toml")
    for shown, real in {
        "port = 587": f"port = {office.port}",
        'host = "mail.example.org"': 'host = "localhost"',
        '# trust = "mail-root.pem" ': f'trust = "{office.ca}" ',
        '# private_hosts = ["mail.example.org"]': 'private_hosts = ["localhost"]',
        'url = "https://chat.example.org/fleet"': f'url = "{url}"\ntrust = "{folder}/company.pem"\n'
        'private_hosts = ["localhost"]',
    }.items():
        assert shown in text
        text = text.replace(shown, real)
    return text


async def test_the_guide_does_what_it_says(reader: Reader, tmp_path: Path) -> None:
    hook, mail = tmp_path / "hook", tmp_path / "mail"
    hook.mkdir()
    mail.mkdir()
    async with receiving(hook) as receiver, post_office(mail, login=True) as office:
        receiver.answer = saying(204)
        run = lambda step: asyncio.to_thread(reader.run, step)  # noqa: E731 - the reader waits, receivers do not
        await run(Step("export FLEET_HOME=$PWD/acme"))
        await run(Step("fleet init --name acme --domain prod"))
        home = tmp_path / "acme"
        for name, secret in {"smtp.password": PASSWORD, "chat.secret": SECRET}.items():
            (home / name).touch(mode=0o600)
            (home / name).write_text(secret)
        config = home / "fleet.toml"
        config.write_text(f"{config.read_text()}\n{configuration(office, receiver.url, hook)}")
        await run(Step("fleet serve", expected=["ready"]))
        await is_told(receiver.began)
        for step in steps(GUIDE.read_text()):
            output = await run(step)
            assert shows(output, step.expected), f"$ {step.command}\n{output}"

        assert office.users[0] == USER
        verify: dict[str, object] = {}
        exec(block("python"), verify)
        is_genuine = verify["is_genuine"]
        assert callable(is_genuine)
        header, body = receiver.signatures[-1], receiver.bodies[-1]
        assert is_genuine(header, body, SECRET)
        assert not is_genuine(header, body + b" ", SECRET)
        assert not is_genuine(header, body, "another")


async def is_told(began: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await began.wait()


@pytest.mark.parametrize("language", ["toml", "python"])
def test_the_page_shows_what_a_reader_copies(language: str) -> None:
    assert block(language)
