"""Certificates of our own parts: renewed long before their end, or brought by somebody."""
