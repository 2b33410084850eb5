"""What ends `make init` early."""


class InitError(Exception):
    """It cannot go on; the message is one line that names the setting and the way out."""
