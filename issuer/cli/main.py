"""``issuer``: the server and what its operators need.

Exit codes: 0 done; 1 it did not work, and the message says why; 2 the command or the configuration is wrong.
"""

from __future__ import annotations

import typer

from issuer.cli.access import access_app
from issuer.cli.approvals import approvals_app
from issuer.cli.decisions import decisions_app
from issuer.cli.dev import dev_app
from issuer.cli.init import init
from issuer.cli.intents import intents_app
from issuer.cli.keys import keys_app
from issuer.cli.ledger import ledger_app
from issuer.cli.policy import policy_app
from issuer.cli.revocations import revocations_app
from issuer.cli.revoke import revoke
from issuer.cli.serve import serve

app = typer.Typer(
    name="issuer",
    help="A security token service for SPIFFE workloads.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(init)
app.add_typer(policy_app, name="policy")
app.add_typer(keys_app, name="keys")
app.add_typer(ledger_app, name="ledger")
app.add_typer(decisions_app, name="decisions")
app.add_typer(approvals_app, name="approvals")
app.add_typer(access_app, name="access")
app.add_typer(intents_app, name="intents")
app.command()(revoke)
app.add_typer(revocations_app, name="revocations")
app.add_typer(dev_app, name="dev")


def main() -> None:
    """Run the command line."""
    app()
