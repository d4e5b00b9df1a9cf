"""The engine: one stage of a round as one process, over files only.

It knows no database, no queue and no network; what it reads and writes is a run directory (see run/directory.py).
"""
