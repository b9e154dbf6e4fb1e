"""Samplers that misbehave, each in its own way."""

import ctypes
import os
import subprocess
import sys
import time

import torch

from specverify.decoders import Autoregressive, sample


def plain(target, draft, n, seed):
    return sample(Autoregressive(), target, n, seed).tokens


def hangs(target, draft, n, seed):
    print("about to wait", flush=True)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", os.environ["SPECVERIFY_TEST_MARK"]])
    while True:
        time.sleep(1)


def leaves(target, draft, n, seed):
    print("farewell")
    sys.stdout.flush()
    os._exit(7)


def crashes(target, draft, n, seed):
    ctypes.string_at(0)


def asks_to_exit(target, draft, n, seed):
    sys.exit("no more of this")


def raises(target, draft, n, seed):
    raise KeyError("no such\nkey")


def is_noisy_and_aborts(target, draft, n, seed):
    for _ in range(1000):
        print("x" * 5000)
    print("the last word", flush=True)
    os.abort()


def takes_memory(target, draft, n, seed):
    return torch.zeros(n, 1 << 30)


def returns_other_tokens(target, draft, n, seed):
    return torch.full((n, target.length), target.vocab)
