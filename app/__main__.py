"""`python -m app`: serve the web application until SIGTERM."""

import gc

from app.signals import exit_on_signals


def main() -> None:
    """Serve; ends with status 0 after a signal, 2 if a setting is missing or wrong."""
    exit_on_signals()
    # What imports make stays for ever, so looking for garbage in it is lost time: a fifth of the whole start.
    gc.disable()
    # Imported late: signals must work while this takes its time.
    from app.server import Server  # noqa: PLC0415 - see above
    from app.settings import load  # noqa: PLC0415 - see above

    server = Server(load())
    gc.freeze()
    gc.enable()
    server.run()


if __name__ == "__main__":
    main()
