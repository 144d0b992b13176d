"""What goes wrong: typed faults. One file per family."""
