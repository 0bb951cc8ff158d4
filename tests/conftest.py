"""Rules of the whole suite: a missing program skips with the name of its package, and fails on CI."""

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

from tests.provider import provider_path

PACKAGES = {
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "curl": "curl",
    "openssl": "openssl",
    "gcc": "gcc mosquitto-dev libmosquitto-dev libssl-dev",
    "pki": "strongswan-pki",
    "mvn": "maven",
    "softhsm2-util": "softhsm2",
    "stunnel4": "stunnel4 libengine-pkcs11-openssl",
    "java": "default-jdk-headless",
    "certtool": "gnutls-bin",
    "ocsptool": "gnutls-bin",
    "certutil": "libnss3-tools",
    "keytool": "default-jdk-headless",
    "nginx": "nginx-light",
    "apache2": "apache2-bin",
    "faketime": "faketime",
    "swtpm": "swtpm swtpm-tools",
    "swtpm_setup": "swtpm-tools",
    "tpm2_createek": "tpm2-tools",
    "tpm2_ptool": "libtpm2-pkcs11-tools libtpm2-pkcs11-1",
    "pkcs11-tool": "opensc",
    "busybox": "busybox",
    "promtool": "prometheus",
    "zbarimg": "zbar-tools",
    "setpriv": "util-linux",
    "cargo": "cargo",
    "socat": "socat",
    "qemu-system-arm": "qemu-system-arm",
    "dpkg-deb": "dpkg",
    "systemd-analyze": "systemd",
}
"""Program to the Debian package that brings it."""

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a part that this system's release does not have at all."""
    left_out = [item for item in items if item.get_closest_marker("provider")]
    if left_out and provider_path() is None:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if shutil.which(program) is None:
                _miss(program)


def _miss(program: str) -> None:
    message = f"{program} is missing: apt-get install {PACKAGES[program]}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
