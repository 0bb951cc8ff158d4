"""The agent on the device: makes its key there, keeps it there, and rotates it for years.

Imports nothing of the server. What both sides share is `device_agent.wire`.
"""

__version__ = "0.1.0"
