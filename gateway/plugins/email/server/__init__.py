"""The inward side: SMTP and LMTP clients connect to the gateway."""
