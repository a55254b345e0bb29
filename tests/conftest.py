"""One thread: these models are so small that waking a second costs more than it brings, many times more on a busy
machine."""

import torch

torch.set_num_threads(1)
