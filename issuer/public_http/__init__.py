"""The public HTTP listener: key set, metadata and health, in a process of its own that never holds the signing key.

``process.py`` is the parent's side, ``child.py`` the other; ``messages.py`` is what passes between them.
"""
