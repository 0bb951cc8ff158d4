"""What a device reads at its first start: an image of its non-volatile storage (ESP-IDF's NVS)."""

import io
from collections.abc import Mapping

NAMESPACE = "fleet"
OFFSET = 0x9000
SIZE = 0x4000
"""Where the partition `nvs` begins in ESP-IDF's own tables, and the octets of it that are written."""

_PAGE = 0x1000
_LONGEST_NAME = 15
_LONGEST_TEXT = 3999


def nvs_image(values: Mapping[str, str]) -> bytes:
    """Return an image whose namespace `fleet` holds these texts: the same octets for the same values.

    Raises:
        ValueError: a name or a text is too long, they do not fit, or the maker's package is not installed.
    """
    try:
        from esp_idf_nvs_partition_gen import nvs_partition_gen as maker  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install 'fleet-provisioning[esp]'"
        raise ValueError(f"esp-idf-nvs-partition-gen is not installed: {hint}") from error
    for name, text in values.items():
        if len(name) > _LONGEST_NAME or len(text.encode()) > _LONGEST_TEXT:
            raise ValueError(f"{name} is too long for NVS: a text has at most {_LONGEST_TEXT} octets")
    written = io.BytesIO()
    try:
        # NVS keeps one page free, to move entries there.
        with maker.nvs_open(written, SIZE - _PAGE, maker.Page.VERSION2) as partition:
            maker.write_entry(partition, NAMESPACE, "namespace", "", "")
            for name, text in values.items():
                maker.write_entry(partition, name, "data", "string", text)
    except (maker.InputError, maker.InsufficientSizeError) as error:
        raise ValueError(f"the values do not fit into {SIZE:#x} octets of NVS") from error
    return written.getvalue()
