"""Client keys that the gateway makes: who holds them, what each may do, and what it has used of it."""
