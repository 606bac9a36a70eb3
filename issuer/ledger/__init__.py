"""The decision ledger: what was decided is durable before anybody is answered, and cannot be changed unseen."""
