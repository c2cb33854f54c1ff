"""Runs beside each other: what they say together, in tables, figures, a page, and against the paper."""
