"""Tokens that are kept, shared and renewed: :meth:`IssuerClient.tokens_for` gives a source of them.

``renewal.py`` says when, ``entry.py`` what one request has, ``cache.py`` what is to be done; all three are pure.
``aio.py`` and ``sync.py`` do it.
"""
