"""The built-in protocol plugins, found through entry points as any other's."""
