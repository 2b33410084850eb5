"""The lab's name server.

In a container, names are resolved by firewall rules of the engine in the container's own tables, and a VPS that loads
its firewall anew (`flush ruleset`) would lose them, which no real server does. So a VPS asks a server with an address.
"""

from lab import engine, images, objects

ALIAS = "name-server"
CONTAINER = f"{objects.NAME}-dns"


def up() -> None:
    """Start the name server unless it runs. The image must be there."""
    found = objects.inspect(CONTAINER)
    if found is not None and found["Image"] == images.image_id(images.DNS.tag) and found["State"]["Running"]:
        return
    objects.remove_containers([CONTAINER])
    options = ["--restart", "always", "--network", objects.NAME, "--network-alias", ALIAS]
    engine.output("run", "--detach", "--name", CONTAINER, *objects.labels(), *options, images.DNS.tag)
