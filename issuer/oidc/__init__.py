"""OIDC issuers that the configuration names: their keys, and what their tokens say."""
