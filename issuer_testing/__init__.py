"""A real SPIRE and a real issuer for integration suites, and a development authority for a first look.

Nothing here is for production: ``issuer serve`` and ``agent_client`` never import it.
"""
