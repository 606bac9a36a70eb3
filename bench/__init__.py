"""``python -m bench``: what a token costs, beside references in the same run.

Each figure is a median of several runs. CPU is the server's process tree as the operating system accounts for it,
divided by the calls answered, so that the load generator's own cost (another process) does not enter.
"""
