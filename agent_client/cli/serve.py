def serve() -> None:
    """x"""
