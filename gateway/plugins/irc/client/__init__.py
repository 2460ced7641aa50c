"""The client role: the gateway joins networks."""
