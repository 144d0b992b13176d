"""What a drill leaves behind: a chain of signed records, what follows from it, and how it is shown to people."""
