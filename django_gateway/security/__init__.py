"""Checks that stand before a consumer."""
