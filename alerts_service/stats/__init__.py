"""Statistics: the number of alerts of a tenant by status, from counters that the statements on alerts update."""
