"""SealedSecrets: the wire format, keys, sealing and opening; `seal` on the command line."""
