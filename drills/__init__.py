"""Rehearsals: scenarios, timelines, reports, and the sandbox they run in. Internal to the application."""
