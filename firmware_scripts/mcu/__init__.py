"""Microcontrollers: builds the reference firmware, programs its flash image, runs it in QEMU, signs it."""
