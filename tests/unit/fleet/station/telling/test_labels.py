"""Labels: what stands on them, and that an independent reader finds in the QR code what was meant."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import BadInputError
from fleet.station.telling.dots import HEIGHT, dots_of, half_blocks, has_letters_for
from fleet.station.telling.labels import QR_SIGNS, Form, LabelText, Template, qr_text

TEXT = LabelText(
    device_id="spring-0042",
    hardware_id="hw.7",
    serial="4a" * 16,
    label="LBL-9",
    station="line3",
    date="2026-03-01",
)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,20}", fullmatch=True)


@given(IDS)
def test_the_code_keeps_to_the_alphanumeric_set_and_tells_devices_apart(device_id: str) -> None:
    said = qr_text(replace(TEXT, device_id=device_id))
    assert QR_SIGNS.issuperset(said)
    assert said == TEXT.serial.upper() or said.lower() == device_id.lower()


@given(IDS, IDS)
def test_no_two_devices_have_the_same_code(first: str, second: str) -> None:
    one = qr_text(replace(TEXT, device_id=first, serial="4a" * 16))
    other = qr_text(replace(TEXT, device_id=second, serial="4b" * 16))
    assert one != other or first == second


@pytest.mark.parametrize("name", ["text", "zpl", "png"])
def test_the_packages_own_templates_name_the_device(name: str) -> None:
    template = Template.load(name)
    label = template.render(TEXT)
    if template.form is Form.PNG:
        assert label.startswith(b"\x89PNG\r\n\x1a\n")
    else:
        assert b"spring-0042" in label


@pytest.mark.needs("zbarimg")
@pytest.mark.parametrize("device_id", ["spring-0042", "Mixed_Case", "A" * 64])
def test_an_independent_reader_finds_the_code(tmp_path: Path, device_id: str) -> None:
    text = replace(TEXT, device_id=device_id)
    (tmp_path / "label.png").write_bytes(Template.load("png").render(text))
    read = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "--nodbus", tmp_path / "label.png"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert read.stdout.strip() == qr_text(text)


def test_nothing_in_a_label_is_a_command_of_the_printer() -> None:
    hostile = replace(TEXT, label="^XZ~JA^XA", station="~")
    label = Template.load("zpl").render(hostile).decode()
    assert label.count("^XA") == label.count("^XZ") == 1
    assert "~" not in label


@pytest.mark.parametrize(
    "text", ["{nobody}", "{device_id.__class__}", "{device_id!r}", "{qr:>9}", "{0}", "{", "{}"]
)
def test_a_template_with_other_names_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        Template.parse(Form.TEXT, text)


@given(st.text(max_size=60))
def test_no_template_breaks_the_reader(text: str) -> None:
    try:
        template = Template.parse(Form.TEXT, text)
    except BadInputError:
        return
    assert isinstance(template.render(TEXT), bytes)


def test_templates_of_files_are_known_by_their_ends(tmp_path: Path) -> None:
    for name, form in (("a.txt", Form.TEXT), ("a.zpl", Form.ZPL), ("a.png.txt", Form.PNG)):
        (tmp_path / name).write_text("{device_id}")
        assert Template.load(str(tmp_path / name)).form is form
    for name in ("a.png", "a.doc", "no.txt"):
        with pytest.raises(BadInputError):
            Template.load(str(tmp_path / name))


@given(st.text(max_size=12))
def test_whatever_is_written_has_seven_rows_of_the_same_length(text: str) -> None:
    rows = dots_of(text)
    assert len(rows) == HEIGHT
    assert {len(row) for row in rows} == {max(0, 6 * len(text) - 1)}
    assert len(half_blocks(text)) == 4


def test_the_letters_of_all_ids_and_german_words_are_there() -> None:
    assert has_letters_for("ABCXYZabcxyz0189-_:. ÄÖÜ")
    assert not has_letters_for("合格")
