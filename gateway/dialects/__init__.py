"""Client languages.  Pure."""
