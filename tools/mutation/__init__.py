"""Do the tests notice a changed figure? ``python -m mutation`` in ``tools/``, or ``tox -e mutate``.

Cosmic-ray's operators change one place of a file at a time (``places``); of the tests that pass through
that place (``hits``) one must then fail (``trials``). What came out: ``benchmarks/results/mutation.md``.
"""
