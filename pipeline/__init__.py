"""What the workflows do between GitHub and Ansible; each module is a command: ``python -m pipeline.<name> --help``."""
