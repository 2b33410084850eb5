"""The one error of the lab."""


class LabError(Exception):
    """Something a person can mend: the message is one line that says what failed and what to do."""
