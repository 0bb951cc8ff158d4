#!/bin/sh
# Enrolls this machine once, over the bootstrap channel. It may run again after a power cut at any point:
# the agent goes on where it stopped, with the same key.
set -eu

settings="${SETTINGS_DIR:-/etc/device-agent}"
state="${STATE_DIR:-/var/lib/device-agent}"
. "$settings/settings"

# The number that stays with the machine: the board's serial number, else the machine id.
number=""
for source in "${DEVICETREE:-/sys/firmware/devicetree/base/serial-number}" "${MACHINE_ID:-/etc/machine-id}"; do
    if [ -r "$source" ]; then
        number=$(tr -cd 'A-Za-z0-9_:-' < "$source")
        [ -z "$number" ] || break
    fi
done
if [ -z "$number" ]; then
    echo "error: this machine has no serial number and no machine id" >&2
    echo "hint: run systemd-machine-id-setup, or write one to /etc/machine-id" >&2
    exit 6
fi

# systemd hands over the key of the batch, which is root's (LoadCredential= of the unit).
claim_key="${CREDENTIALS_DIRECTORY:-$settings}/claim.key"

exec device-agent --state "$state" enroll --mqtt "$BOOTSTRAP" --device "$ID_PREFIX$number" \
    --claim "$settings/claim.crt,$claim_key" --trust "$settings/trust.pem"
