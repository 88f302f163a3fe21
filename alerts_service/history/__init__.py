"""History: the events of an alert, and of all alerts of a tenant. The statements that change alerts append events."""
