"""Exporting: which labels (`selection`), as what records (`records`), in which file (`formats`), and handing it out
(`exports`). All of it is made while it is sent, a few hundred rows at a time, whatever the size of the project.
"""
