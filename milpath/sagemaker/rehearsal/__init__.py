"""The same job on one machine, in a folder like that of its container, before it is paid for."""
