"""The history of the tables: expand only, so that the version before keeps working on every step."""
