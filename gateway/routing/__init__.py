"""Which model, which credential, how often."""
