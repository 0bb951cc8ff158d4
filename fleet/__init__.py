"""The provisioning server: issues one certificate per device, and stands behind it to its end."""
