#!/bin/sh
# Put newer versions of the engine and of containerd into the repository that docker_repository.sh made.
set -eu
export GNUPGHOME=/srv/gnupg
cd /srv/repository/linux/debian

for name in docker-ce containerd.io; do
    rm -rf /srv/unpacked
    dpkg-deb --raw-extract "pool/$name.deb" /srv/unpacked
    sed -i 's/^Version:.*/&+newer/' /srv/unpacked/DEBIAN/control
    dpkg-deb -Znone --build /srv/unpacked "pool/$name.deb"
done
/srv/publish.sh
