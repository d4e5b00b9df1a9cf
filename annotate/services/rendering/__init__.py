"""Rendering: what people and models wrote becomes HTML. `markup` is the way in; the rest is Markdown, TeX and code."""
