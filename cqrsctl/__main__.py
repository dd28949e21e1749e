"""`python -m cqrsctl` is the same as `cqrsctl`."""

from cqrsctl.cli.app import main

if __name__ == "__main__":
    main()
