"""The client role of IRC: the gateway joins networks."""
