"""The rules of `recover lint`, by topic. Each is one pure function over a `Subject`; the table is in `lint.py`."""
