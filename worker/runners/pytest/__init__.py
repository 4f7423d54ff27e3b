"""Runner `pytest`, the side inside the process that runs tests.

Rule: standard library and pytest only, and relative imports only: it is loaded by path into
interpreters that have no dtf.

`entry` has all a host needs: prepare, warm, run, close.
"""
