"""The figures of ``gpu_acceptance.py``: one file per stage, and the report that they share."""
