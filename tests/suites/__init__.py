"""Other people's test suites, run by plain pytest and by `pytest --dtf`, compared case by case.

Rule: their code is fetched, never kept here; what is fetched is pinned by its hash.
"""
