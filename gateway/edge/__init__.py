"""What a client touches: the HTTP site, its gate, the Klein tree and the relay."""
