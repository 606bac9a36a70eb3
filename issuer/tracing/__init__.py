"""Traces of calls, by OTLP to a collector. Imported only when they are configured."""
