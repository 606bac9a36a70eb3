"""The pytest plugin of ``spiffe-issuer[testing]``."""
