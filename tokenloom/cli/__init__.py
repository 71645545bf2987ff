"""The command line: what is read from and shown to a person. The work is in `driver`."""
