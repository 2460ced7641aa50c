"""The server role of IRC: stock clients connect to the gateway."""
