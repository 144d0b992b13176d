"""Doors to vendors: one file per vendor library, imported lazily; vendor types and errors stop here."""
