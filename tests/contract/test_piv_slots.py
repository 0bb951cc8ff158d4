"""What slots of a PIV token add to a key store: their keys are made elsewhere, each is used once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.errors import BadInputError, KeyStoreError
from device_agent.keys.piv_slots import PivKeyStore
from device_agent.keys.place import forget, open_keys, settle
from device_agent.keys.uri import PIV_SLOTS, parse_token_uri
from tests.tokens import MODULE, SoftHsm, SoftToken

NEEDS = pytest.mark.needs("softhsm2-util")
PLACE = f"pkcs11:token=t?module-path={MODULE}"


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    made = hsm.token()
    for slot in ("9a", "82"):
        made.make_piv_key(slot)
    return made


def opened(token: SoftToken, folder: Path, slots: str = "9a,9c,82") -> PivKeyStore:
    uri = parse_token_uri(f"{token.uri}&piv-slots={slots}")
    return PivKeyStore(uri, refused_pins=folder / "pin-refused", taken=folder / "piv-keys")


@NEEDS
def test_keys_are_taken_in_the_order_of_the_uri_and_empty_slots_left_out(
    token: SoftToken, tmp_path: Path
) -> None:
    keys = opened(token, tmp_path)
    keys.create("k-1")
    keys.create("k-2")
    assert [keys.reference(name).partition("?")[0] for name in ("k-1", "k-2")] == [
        f"pkcs11:token={token.label};type=private;id=%{place:02x}" for place in (1, 5)
    ]
    with pytest.raises(KeyStoreError, match="no slot has a key that is new") as caught:
        keys.create("k-3")
    assert "ykman piv keys generate" in str(caught.value.hint)


@NEEDS
def test_a_key_that_was_given_up_is_never_used_again_but_its_slot_is(
    token: SoftToken, tmp_path: Path
) -> None:
    keys = opened(token, tmp_path, "9a")
    first = keys.create("k-1").public_key_der
    keys.destroy("k-1")
    with pytest.raises(KeyStoreError, match="no slot"):
        opened(token, tmp_path, "9a").create("k-2")
    token.make_piv_key("9a")
    assert opened(token, tmp_path, "9a").create("k-2").public_key_der != first


@NEEDS
def test_a_key_that_somebody_made_anew_in_its_slot_is_not_taken_for_the_old_one(
    token: SoftToken, tmp_path: Path
) -> None:
    opened(token, tmp_path).create("k-1")
    token.make_piv_key("9a")
    with pytest.raises(KeyStoreError, match="slot 9a does not hold the key k-1 any more"):
        opened(token, tmp_path).open("k-1")


@NEEDS
def test_a_file_that_does_not_say_whose_a_key_is_stops_everything(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "piv-keys").write_text("9a who knows\n")
    for act in (lambda: opened(token, tmp_path).create("k-1"), lambda: opened(token, tmp_path).names()):
        with pytest.raises(KeyStoreError, match="does not say which keys are whose"):
            act()


def test_an_unknown_key_has_no_reference(tmp_path: Path) -> None:
    uri = parse_token_uri(f"{PLACE}&piv-slots=9a")
    keys = PivKeyStore(uri, refused_pins=tmp_path / "pin-refused", taken=tmp_path / "piv-keys")
    with pytest.raises(KeyStoreError, match="no key"):
        keys.reference("k-1")


def test_slots_are_a_place_of_keys_and_more_of_them_may_be_named_later(tmp_path: Path) -> None:
    settle(tmp_path, f"{PLACE}&piv-slots=9a", in_use=frozenset())
    assert isinstance(open_keys(tmp_path), PivKeyStore)
    settle(tmp_path, f"{PLACE}&piv-slots=9a,9c", in_use=frozenset({"k-1"}))
    assert "piv-slots=9a,9c" in (tmp_path / "key-place").read_text()
    with pytest.raises(BadInputError, match="has its keys in"):
        settle(tmp_path, PLACE, in_use=frozenset({"k-1"}))


def test_a_reset_does_not_forget_which_keys_were_used(tmp_path: Path) -> None:
    (tmp_path / "piv-keys").write_text(f"9a {'0' * 64} -\n")
    settle(tmp_path, f"{PLACE}&piv-slots=9a", in_use=frozenset())
    forget(tmp_path)
    assert (tmp_path / "piv-keys").exists()


@pytest.mark.parametrize("slots", ["f9", "9a,9a", "9A", "9a,", "81", "96", "9a&key-type=rsa"])
def test_slots_that_are_none_are_refused(slots: str) -> None:
    with pytest.raises(BadInputError):
        parse_token_uri(f"{PLACE}&piv-slots={slots}")


def test_all_slots_of_an_owner_have_a_place_of_their_own() -> None:
    assert len(set(PIV_SLOTS)) == 24
    assert (PIV_SLOTS[3], PIV_SLOTS[4], PIV_SLOTS[23]) == ("9e", "82", "95")
