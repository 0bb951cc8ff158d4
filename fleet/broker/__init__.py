"""Drivers that make a broker enforce the allowlist."""
