"""Tests that run on the GPU by `make test-gpu`, and at tiny width on the CPU by `make test`."""

import pytest
import torch

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
gpu = pytest.param("cuda", marks=on_gpu)
DEVICES = ["cpu", gpu]
