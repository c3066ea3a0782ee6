"""Servers that people would pick instead, around the same model: one file each.

None of their packages is a dependency of the project; each file says what to install. All
take the same flags, and texts of one token a word, which they tokenise as ours does.
"""
