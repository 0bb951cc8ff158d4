SUMMARY = "Keeps a device's certificate"
DESCRIPTION = "Makes this device's key here, has it certified by its fleet, and renews the certificate by itself."
SECTION = "net"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

# An archive that is unpacked by the build could lose its modes: it is unpacked where it is installed.
SRC_URI = "\
    file://device-agent.pyz \
    file://overlay.tar;unpack=0 \
"

inherit systemd useradd

# Releases up to scarthgap have no UNPACKDIR.
DEVICE_AGENT_FILES = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"

SYSTEMD_SERVICE:${PN} = "device-agent.service device-agent-enroll.service"
USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --home-dir ${localstatedir}/lib/device-agent --no-create-home --shell /sbin/nologin device-agent"

do_install() {
    tar -C ${D} --no-same-owner -xf ${DEVICE_AGENT_FILES}/overlay.tar
    install -D -m 0755 ${DEVICE_AGENT_FILES}/device-agent.pyz ${D}${bindir}/device-agent
    if [ "${systemd_system_unitdir}" != "${sysconfdir}/systemd/system" ]; then
        install -d ${D}${systemd_system_unitdir}
        mv ${D}${sysconfdir}/systemd/system/*.service ${D}${systemd_system_unitdir}/
    fi
}

FILES:${PN} += "${nonarch_libdir}/device-agent ${nonarch_libdir}/sysusers.d ${systemd_system_unitdir}"
CONFFILES:${PN} = "${sysconfdir}/device-agent/settings"
RDEPENDS:${PN} = "\
    python3-asyncio \
    python3-compression \
    python3-core \
    python3-cryptography \
    python3-ctypes \
    python3-json \
    python3-logging \
    python3-netclient \
    python3-threading \
"
