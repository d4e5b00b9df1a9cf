"""Importing: bytes become records (`sources`), records become conversations (`conversations`), and a report says what
became of them (`reports`). Storing them is annotate.services.prompts.
"""
