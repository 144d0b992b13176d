"""The functions templates can call: one file per subject, each a table from name to `Function`."""
