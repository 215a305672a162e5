"""Which card a device is, by the name that plans know it by, as a machine to plan for, and how much memory a process has there."""

import torch

from nanofit.device.torch_device import Device
from nanofit.hardware.cpu import CPU, cpu_card
from nanofit.hardware.gpu_names import find_by_device_name
from nanofit.planning.calibration import MeasuredCard, read_calibration
from nanofit.planning.machine import Machine, this_cpu


def measured_card(device: Device) -> MeasuredCard:
    """The card that `device` is: the catalogue's, or one by the driver's own name."""
    if device.kind != "cuda":
        machine = cpu_card()
        name = machine.name if device.kind == "cpu" else f"{device.name}, {machine.name}"
        return MeasuredCard(name, machine.vram_gib, CPU, native_bf16=False)
    properties = torch.cuda.get_device_properties(device.torch_device)
    memory_gib = properties.total_memory / 2**30
    known = find_by_device_name(device.name, memory_gib)
    if known is not None:
        return MeasuredCard.of(known)
    capability = f"{properties.major}.{properties.minor}"
    return MeasuredCard(device.name, memory_gib, capability, native_bf16=properties.major >= 8)


def machine_of_device(device: Device) -> Machine:
    """The machine to plan for where `device` trains: its memory as it is free now, and its speed as measured, else by the
    catalogue or the gauge of CPUs."""
    if device.kind == "cpu":
        return this_cpu()
    card = measured_card(device)
    calibration = read_calibration(card.name)
    rests_on = (
        "the catalogue's figures for this machine's card"
        if card.is_listed
        else "figures of a similar card, which are assumed"
    )
    return Machine(card.gpu, 1, free_bytes(device) / 2**30, rests_on, calibration)


def free_bytes(device: Device) -> int:
    """What a process could have now: of the card's memory on CUDA, of the machine's elsewhere."""
    if device.kind == "cuda":
        return torch.cuda.mem_get_info(device.torch_device)[0]
    return int(cpu_card().usable_gib * 2**30)


def reserved_bytes(device: Device) -> int:
    """The most memory that the process took so far: reserved by the allocator on CUDA, the resident set elsewhere."""
    if device.kind == "cuda":
        return torch.cuda.max_memory_reserved(device.torch_device)
    return device.peak_memory_bytes()
