"""`make init`: from a host, a user, a domain and an application's name to an inventory, a deploy key and a vault."""
