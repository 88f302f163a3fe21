"""History: what alerts went through."""
