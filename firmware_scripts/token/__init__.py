"""Prepares PKCS#11 tokens for devices: SoftHSM, a TPM behind tpm2-pkcs11, or any other that has a module."""
