"""``python -m issuer`` is the ``issuer`` command."""

from issuer.cli.main import main

main()
