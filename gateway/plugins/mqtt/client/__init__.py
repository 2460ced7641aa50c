"""The client role: the gateway joins brokers."""
