"""Credentials and their tokens."""
