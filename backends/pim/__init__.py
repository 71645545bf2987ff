"""The HBM-PIM memory stack, hosted on the CPU."""
