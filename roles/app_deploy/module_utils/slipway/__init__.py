"""The engine of a release: it runs on the server, with its python3 and the docker CLI alone.

The module ``app_deploy_release`` installs this package on the server as the command ``slipway`` (a zip
application) and starts it there, so a release goes on when the SSH session that started it ends.

Read it in this order: ``request`` (what is wanted), ``compose`` and ``proxy`` (pure: what it means),
``rollout`` (the stages of a release), ``journal`` (what is remembered), ``host`` and ``docker`` (the only
parts that touch the machine), ``cli`` (how it is called).

Python 3.10 or newer, standard library only.
"""

VERSION = "0.1.0"
