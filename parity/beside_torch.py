"""A plugin of pytest: what PyTorch and its libraries need before anything imports them."""

import importlib.metadata
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch


def pytest_configure():
    """Declares the operators that torchvision asks for when it is imported.

    Its compiled part does not load beside a PyTorch built for CPUs alone, unless it was built for those too;
    what is used of it here is Python.
    """
    built_alike = torch.version.cuda is not None or "+cpu" in importlib.metadata.version("torchvision")
    if not built_alike:
        declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        pytest_configure.kept = declared  # an operator lives as long as its library
