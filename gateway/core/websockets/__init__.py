"""The wire of WebSocket (RFC 6455), for every plugin that is spoken over it: handshake, frames."""
