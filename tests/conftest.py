"""One thread: these models are so small that waking a second costs more than it brings, fifty times more where tests
run side by side. And no deadline of an example: a slow disk is no failure."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of libraries loaded from here on, also by the commands that tests run

import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

threadpool_limits(1)  # of those that are loaded
torch.set_num_threads(1)
settings.register_profile("mvae", deadline=None)
settings.load_profile("mvae")
