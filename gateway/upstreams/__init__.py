"""Google's backends: request shapes, verdicts and the wire."""
