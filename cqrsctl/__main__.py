"""The start of the program; `python -m cqrsctl` is the same as `cqrsctl`."""

import os
import signal


def main() -> None:
    """Run the command line. Ctrl-C ends it at once as long as it is loading."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from cqrsctl.cli.app import main as run  # noqa: PLC0415 -- after the signal is handled

    run()


if __name__ == "__main__":
    main()
