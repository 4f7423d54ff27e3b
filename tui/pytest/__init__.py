"""`pytest --dtf`: pytest's own session, fed by a pool.

Rule: the client imports no test module; whatever pytest prints, counts and exits with is made by
pytest's own hooks from the reports that come back.
"""
