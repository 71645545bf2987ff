"""Machines, their cost, and the devices that run kernels. They know no IR."""
