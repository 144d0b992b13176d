"""What must hold afterwards: typed checks. One file per family. A check gives whether it held, and why."""
