"""Project manager: the reference application that Slipway releases. Importing this package costs nothing."""
