"""Several processes, one model: what torchrun starts, found out from `torch.distributed`; one process alone needs none of it."""

import os

import torch
from torch import Tensor, nn


def start() -> torch.device:
    """Join the process group that torchrun has described in the environment, if it has, and return this process's device."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" in os.environ and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")


def rank() -> int:
    """Return this process's number; 0 alone."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """Return the number of processes; 1 alone."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def wrap(module: nn.Module) -> nn.Module:
    """Return the module with its gradients averaged over the processes; the module itself if there is one only."""
    if world() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if world() > 1:
        torch.distributed.all_reduce(value)
    return value


def wait() -> None:
    """Return when all processes are here."""
    if world() > 1:
        torch.distributed.barrier()


def from_first(value: Tensor) -> Tensor:
    """Return the first process's tensor in every process."""
    if world() > 1:
        torch.distributed.broadcast(value, 0)
    return value
