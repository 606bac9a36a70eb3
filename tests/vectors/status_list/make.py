"""Writes the vectors of draft-ietf-oauth-status-list from its source: ``make.py CHECKOUT_OF_THE_DRAFT``.

Each file holds the bits for each entry, the encoded list, and the entries that are not 0 (section 4 and appendix).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
LONG_SIZE = 1 << 20
"""What the appendix says that its lists are of."""
EXAMPLES = {
    "short_1": "status_list_encoding_json",
    "short_2": "status_list_encoding2_json",
    "long_1": "status_list_encoding1_long_json",
    "long_2": "status_list_encoding2_long_json",
    "long_4": "status_list_encoding4_json",
    "long_8": "status_list_encoding8_json",
}
"""In the order in which the text tells their statuses."""


def main(draft: Path) -> None:
    """Write every vector."""
    text = (draft / "draft-ietf-oauth-status-list.md").read_text(encoding="utf-8")
    blocks = [block for block in re.split(r"~{3,}.*", text) if block.lstrip().startswith("status[")]
    for (name, example), block in zip(EXAMPLES.items(), blocks, strict=True):
        found = re.findall(r"status\[(\d+)\]\s*= 0b([01]+)", block)
        body = (draft / "examples" / f"{example}.md").read_text(encoding="utf-8")
        encoded = json.loads(re.sub(r"\s", "", body[body.index("{") :]))
        vector = {
            "bits": encoded["bits"],
            "size": LONG_SIZE if name.startswith("long") else len(found),
            "lst": encoded["lst"],
            "statuses": {int(index): int(value, 2) for index, value in found if int(value, 2)},
        }
        (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
