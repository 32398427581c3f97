"""Networks made smaller for a latency, with their weights."""
