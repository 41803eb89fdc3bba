"""A stand-in for Google's backends that misbehaves on request."""
