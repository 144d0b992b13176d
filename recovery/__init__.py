"""From Git to a running cluster: read applications, render, order, diff, sync. Internal to the application."""
