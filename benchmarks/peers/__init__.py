"""Other systems doing the same job, each a program of its own: `python -m benchmarks.peers.<system>_job`.

Settings are those that the system's documentation advises for this kind of job; each module's docstring says which
were chosen and why. Nothing here measures: the runner does, from outside, the same for all.
"""
