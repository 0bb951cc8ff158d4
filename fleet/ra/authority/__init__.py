"""Roots and issuing CAs: made, certified by another, on record, trusted, seen by the doctor."""
