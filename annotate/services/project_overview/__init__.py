"""A project's overview: what its admins read first, with its charts and the figures of each person."""
