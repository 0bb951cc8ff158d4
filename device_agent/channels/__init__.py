"""How the device reaches the server. Each channel carries the same wire messages."""
