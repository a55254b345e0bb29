"""One thread, because these models are so small that a second one costs more than it saves, fifty times more where
tests run in parallel; and no deadline for hypothesis, because a slow disk is not a failure."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for libraries loaded from here on, also in commands that tests run

import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

threadpool_limits(1)  # for libraries that are already loaded
torch.set_num_threads(1)
settings.register_profile("mvae", deadline=None)
settings.load_profile("mvae")
