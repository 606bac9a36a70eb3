def inspect_token() -> None:
    """x"""
