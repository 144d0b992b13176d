"""ExternalSecrets: what a manifest asks for, and what is written from what the stores answered. Pure."""
