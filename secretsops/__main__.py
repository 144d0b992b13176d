"""`python -m secretsops` is the `secretsops` command."""

from secretsops.cli import main

if __name__ == "__main__":
    main()
