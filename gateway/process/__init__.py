"""What a daemon and its host owe each other: signals, sockets, systemd, a watch over the reactor."""
