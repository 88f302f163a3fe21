"""How many alerts a tenant has."""
