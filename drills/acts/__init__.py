"""What is done on purpose: to reach the state before the disaster, and to recover. One file per family."""
