"""Where SPIFFE identities come from while developing and testing: a real SPIRE, or an authority that attests nobody."""
