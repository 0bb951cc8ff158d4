"""Partition images for ESP32s: a key of each device, and what it needs to find its fleet."""
