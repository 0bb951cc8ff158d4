"""The guard: our Mosquitto plugin in C, and how it is built."""
