"""Data sets turned into problems, one file each; found through the entry points ``alharness.tasks``."""
