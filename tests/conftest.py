"""One thread: these models are so small that waking a second costs more than it brings, many times more on a busy
machine. And no deadline of an example: a slow disk is no failure."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("mvae", deadline=None)
settings.load_profile("mvae")
