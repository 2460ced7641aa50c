"""The server role: devices connect to the gateway."""
