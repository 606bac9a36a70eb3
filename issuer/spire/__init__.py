"""The issuer's side of SPIRE: its own SVID and the trust bundles, kept fresh by the Workload API."""
