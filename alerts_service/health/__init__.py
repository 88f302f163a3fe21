"""Health: whether the process is alive, whether the database responds, and details for operators."""
