"""How dates and times are written, a folder for each language that differs from Django's own ways."""
