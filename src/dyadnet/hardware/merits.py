"""Figures of merit that estimates start from, each with its source and what it is worth; pass others for your own."""

from dyadnet.hardware.figure import Figure

_DEVICES = "PCM .25 to 25 uS, ReRAM 1 to 40 uS, as in aihwkit's noise models"
_AOC = "analog optical computer, Nature 2025, doi 10.1038/s41586-025-09430-z"
_AIM = "analog iterative machine, arXiv 2304.12594, as thesis 2.4 quotes it"

# circuits
CONDUCTANCE = Figure("conductance of a device", 0.25e-6, 40e-6, "S", _DEVICES, "assumed")
DROP = Figure("voltage across a device", 0.01, 0.1, "V", "signals of 10 to 100 mV", "assumed")
CAPACITANCE = Figure("capacitance of a node", 1e-13, 1e-12, "F", "nodes of .1 to 1 pF", "assumed")
LEAK = Figure("conductance of a node to ground", 1e-6, 1e-5, "S", "transconductors of microsiemens", "assumed")
GYRATION = Figure("transconductance of a coupling", 1e-6, 1e-5, "S", "transconductors of microsiemens", "assumed")
SUPPLY = Figure("supply of a transconductor", 0.8, 1.8, "V", "integrated circuits of .8 to 1.8 V", "assumed")

# conversions and writes
STEP = Figure("energy of a conversion step", 1e-14, 1e-13, "J", "converters of 10 to 100 fJ a step", "assumed")
CONVERSION = Figure("latency of a conversion", 1e-8, 1e-6, "s", "converters of 1 to 100 MS/s", "assumed")
WRITE = Figure("energy of writing a device", 1e-13, 1e-11, "J", "pulses of .1 to 10 pJ", "assumed")
ROW = Figure("latency of writing a row", 1e-8, 1e-6, "s", "pulses of 10 ns to 1 us", "assumed")

# the optical machine
TURN = Figure("latency of a turn", 20e-9, 20e-9, "s", _AOC, "built")
TURN_PROJECTED = Figure("latency of a turn, projected", 0.6e-9, 0.6e-9, "s", _AIM, "projected")
OPERATION = Figure("energy of an operation", 2e-15, 2e-15, "J", f"500 TOPS/W at 8 bits: {_AOC}", "projected")
READING = Figure("latency of a read-out", 8.9e-6, 8.9e-6, "s", f"2.5 us and 40 readings at 6.25 MHz: {_AOC}", "built")
FRAME = Figure("latency of writing the modulator", 1e-3, 1e-2, "s", "liquid crystals, 100 to 1000 frames/s", "assumed")

# digital computers
EFFICIENCY = Figure("digital operations a joule", 4e12, 5e12, "op/J", "GPUs of 4 to 5 TOPS/W", "assumed")
THROUGHPUT = Figure("digital operations a second", 1e13, 1e15, "op/s", "GPUs of 10 to 1000 TOPS at work", "assumed")
MEMORY = Figure("energy of rewriting a weight", 3.2e-10, 1.28e-9, "J", "64 bits moved at 5 to 20 pJ a bit", "assumed")
BANDWIDTH = Figure("weights rewritten a second", 6.25e9, 3.75e11, "weights/s", "memory of 50 GB/s to 3 TB/s", "assumed")
