"""The border between the harness and foreign code: what is checked, what must stay as it was, who is named.

``author`` names a plug-in in messages, ``answers`` checks what it gave, ``state`` and ``marks`` compare what
it had to leave alone, ``limits`` ends what takes too long, ``vault`` hides targets meanwhile, and ``guard``
brings them together around every selection of a run.
"""
