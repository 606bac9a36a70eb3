"""What a monitoring system scrapes."""
