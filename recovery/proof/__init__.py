"""What can be told before the disaster: plan, lint, verify, gap, recovery points. Never writes to a cluster."""
