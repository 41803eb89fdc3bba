"""What listens to the path: logs now; metrics and usage later."""
