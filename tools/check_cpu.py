"""Is torch the CPU build and torchvision absent, as in every number this project publishes?

The tests work elsewhere too, but are timed for this: a note, and an error where CI is set."""
import importlib.util
import os
import sys

import torch


def faults() -> list[str]:
    """What differs, and how to change it."""
    found = []
    if torch.version.cuda:
        found.append(f"torch {torch.__version__} is a CUDA build; the tests are timed for the CPU "
                     "build: pip install -c constraints.txt torch "
                     "--index-url https://download.pytorch.org/whl/cpu")
    if importlib.util.find_spec("torchvision"):
        found.append("torchvision is installed; nothing here needs it: pip uninstall torchvision")
    return found


def main() -> int:
    for fault in (found := faults()):
        print("error:" if os.environ.get("CI") else "note:", fault, file=sys.stderr)
    return int(bool(found and os.environ.get("CI")))


if __name__ == "__main__":
    sys.exit(main())
