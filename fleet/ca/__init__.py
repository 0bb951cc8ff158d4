"""The part that signs. It trusts an approved template, never a CSR."""
