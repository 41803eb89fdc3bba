"""What ``antigravity`` does, one module a command; a reactor comes in as an argument."""
