"""The commands of ``spiffe-token``, one file for each. A token goes to standard output, every message does not."""
