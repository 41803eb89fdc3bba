"""The dashboard in a real browser; `python -m tests.browser` runs it."""
