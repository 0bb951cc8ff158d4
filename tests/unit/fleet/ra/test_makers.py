"""Anchors of manufacturers and TPM vendors: read once, by domain, and refused where a file holds none."""

from pathlib import Path

import pytest

from fleet.config import parse
from fleet.errors import BadInputError
from fleet.ra.makers import load_makers
from tests.makers import TestMaker

TOML = """
[fleet]
name = "acme"
[domains.prod.manufacturers.maker]
anchors = "maker.pem"
unregistered = "admit"
[domains.prod.tpm.vendor]
anchors = "maker.pem"
[domains.lab]
"""


def test_each_domain_has_its_own(tmp_path: Path) -> None:
    TestMaker().anchors(tmp_path / "maker.pem")
    makers = load_makers(parse(TOML), root=tmp_path)
    (maker,) = makers.idevids("prod")
    (vendor,) = makers.tpms("prod")
    assert (maker.anchors.name, maker.may_register, vendor.name) == ("maker", True, "vendor")
    assert len(maker.anchors.certificates) == len(makers.certificates) == 2
    assert (makers.idevids("lab"), makers.tpms("lab"), makers.tpms("elsewhere")) == ((), (), ())


@pytest.mark.parametrize("content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nMAA=\n"])
def test_a_file_without_certificates_is_told_by_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "maker.pem").write_bytes(content)
    with pytest.raises(BadInputError, match=r"maker.pem holds no certificates in PEM"):
        load_makers(parse(TOML), root=tmp_path)


def test_a_file_that_is_not_there_is_told_with_the_key_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: no such file") as missing:
        load_makers(parse(TOML), root=tmp_path)
    assert missing.value.hint == "see anchors of maker in fleet.toml"
