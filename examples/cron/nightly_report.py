"""A job that cannot be changed and knows nothing of us: it expects a bearer token in the variable LEDGER_TOKEN."""

import json
import os
import sys
import urllib.request

request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {os.environ['LEDGER_TOKEN']}"})
with urllib.request.urlopen(request, timeout=30) as answer:
    entries = json.load(answer)
print(f"{len(entries)} entries in the ledger")
