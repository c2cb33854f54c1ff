"""The figures of ``gpu_acceptance.py``: what is measured, in which order, and how it is written down."""
