"""``python -m agent_client``: the ``spiffe-token`` command."""

from agent_client.cli.main import main

main()
