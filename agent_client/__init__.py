"""What a workload uses to ask spiffe-issuer for tokens."""
