"""Apps on other servers: how they are called, synced and found, and how their runs are driven."""
