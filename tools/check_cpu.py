"""Fail unless torch is the CPU build and torchvision is absent, as in every number this project publishes."""
import importlib.util
import sys

import torch

if torch.version.cuda:
    sys.exit(f"torch {torch.__version__} is a CUDA build; the tests are timed for the CPU build: "
             "pip install -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu")
if importlib.util.find_spec("torchvision"):
    sys.exit("torchvision is installed; nothing here needs it: pip uninstall torchvision")
