"""Regenerate the tables and images of ablations in the documents from results/.

python scripts/tables.py [DOCUMENT ...]
"""

import sys
from pathlib import Path

from metaprompts.ablation.docs_tables import rebuild

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "docs/ablations.md", ROOT / "docs/micro.md")


def main() -> None:
    """Rewrite the documents named on the command line, or all."""
    for document in map(Path, sys.argv[1:] or DOCUMENTS):
        names = rebuild(document, ROOT / "studies", ROOT / "results")
        sys.stdout.write(f"{document}: {', '.join(names) or 'no tables'}\n")


if __name__ == "__main__":
    main()
