"""An issuer of several worker processes: the supervisor that keeps them, and what a worker is told."""
