"""What can be wrong with a ledger."""

from __future__ import annotations


class LedgerFault(Exception):
    """The ledger cannot be used now; the message is one line for an operator, with the remedy where there is one.

    After a fault in a commit it is not known whether its rows are there.
    """
