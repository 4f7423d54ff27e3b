"""A pool in one process, in virtual time, from one seed: real code on twins of the outside.

Rule: a seed is a story. The same seed gives the same log, byte for byte, on every machine.

`python -m dtf.tests.sim --help`; `docs/explanation/simulator.md` says what is simulated.
"""
