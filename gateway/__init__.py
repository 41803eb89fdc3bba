"""Antigravity Gateway: a reverse proxy for the Gemini API over a pool of Google credentials."""

__version__ = "0.1.0"
