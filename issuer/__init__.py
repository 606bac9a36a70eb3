"""spiffe-issuer: the server. Start reading at ``issuance.py``, then ``core/decide.py``."""
