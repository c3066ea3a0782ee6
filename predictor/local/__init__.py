"""`make up`: what Headway needs on one machine, started, watched and stopped together.

Every service is a program of its own, so nothing here imports what it starts.
"""
