"""Tokens for the libraries that people call APIs with. Each module imports only the library that it is named after.

========================================  ==============================================================================
``adapters.httpx.TokenAuth``              ``httpx.Client(auth=TokenAuth(source))``, and ``AsyncClient``
``adapters.requests.TokenAuth``           ``session.auth = TokenAuth(source)``
``adapters.aiohttp.TokenMiddleware``      ``ClientSession(middlewares=[TokenMiddleware(source)])``
``adapters.grpc.call_credentials``        beside TLS, for channels of grpc and grpc.aio; with interceptors
``adapters.provider.token_provider``      a callable, for SDKs that take one
========================================  ==============================================================================

What they have in common is in :mod:`agent_client.adapters.response`: a token that a server calls invalid is replaced
once, and what no fresh token can mend is raised as an error of :mod:`agent_client.resource_errors`. What keeps a source
from getting a token is raised as it is, an error of :mod:`agent_client.errors`, and nothing is sent.
"""
