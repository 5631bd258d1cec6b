"""Regenerate the tables and images of ablations in the documents from results/.

python scripts/tables.py [DOCUMENT ...]
"""

import re
import sys
from pathlib import Path

from metaprompts.ablation.report import rebuilt
from metaprompts.utils.files import write_text

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "docs/ablations.md", ROOT / "docs/micro.md")


def main() -> None:
    """Rewrite the documents named on the command line, or all."""
    for document in map(Path, sys.argv[1:] or DOCUMENTS):
        text = document.read_text(encoding="utf-8")
        write_text(document, rebuilt(text, ROOT / "studies", ROOT / "results", document.parent))
        names = re.findall(r"<!-- table: ([\w-]+) -->", text)
        sys.stdout.write(f"{document}: {', '.join(names) or 'no tables'}\n")


if __name__ == "__main__":
    main()
