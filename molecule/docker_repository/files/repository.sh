#!/bin/sh
# Build an apt repository like Docker's in /srv/repository, out of Debian's packages; /srv/repository/fingerprint names its key.
set -eu
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/srv/gnupg

apt-get update -q
apt-get install -qy --no-install-recommends apt-utils dpkg-dev gnupg
mkdir -p /srv/packages /srv/repository/linux/debian/pool
cd /srv/packages
apt-get download -q docker.io docker-cli docker-compose docker-buildx containerd

# repack DEBIAN-PACKAGE DOCKER-PACKAGE DEPENDENCIES
repack() {
    rm -rf unpacked
    dpkg-deb --raw-extract "$1"_*.deb unpacked
    sed -i -e "s/^Package:.*/Package: $2/" -e "s/^Depends:.*/Depends: $3/" \
        -e '/^\(Breaks\|Replaces\|Conflicts\|Recommends\|Suggests\|Source\):/d' unpacked/DEBIAN/control
    dpkg-deb -Znone --build unpacked "/srv/repository/linux/debian/pool/$2.deb"
}
repack docker.io docker-ce 'containerd.io, docker-ce-cli, iptables, libc6, libseccomp2, libsystemd0, adduser'
repack containerd containerd.io 'libc6, runc'
repack docker-cli docker-ce-cli libc6
repack docker-compose docker-compose-plugin libc6
repack docker-buildx docker-buildx-plugin libc6

cd /srv/repository/linux/debian
# As Docker does it: the repository is signed by a subkey, people know the fingerprint of the primary key.
mkdir -m 700 "$GNUPGHOME"
gpg --batch --passphrase '' --quick-gen-key 'Stand-in <nobody@example.org>' ed25519 cert never
fingerprint=$(gpg --list-keys --with-colons | awk -F: '/^fpr/ { print $10; exit }')
gpg --batch --passphrase '' --quick-add-key "$fingerprint" ed25519 sign never
gpg --armor --output gpg --export "$fingerprint"

# Run again by newer.sh.
cat >/srv/publish.sh <<'PUBLISH'
#!/bin/sh
# Describe what the repository holds now, and sign that.
set -eu
cd /srv/repository/linux/debian
release=dists/trixie
mkdir -p "$release/stable/binary-amd64"
dpkg-scanpackages pool >"$release/stable/binary-amd64/Packages"
apt-ftparchive -o APT::FTPArchive::Release::Codename=trixie -o APT::FTPArchive::Release::Components=stable \
    -o APT::FTPArchive::Release::Architectures=amd64 release "$release" >/srv/Release
gpg --batch --yes --clearsign --output "$release/InRelease" /srv/Release
PUBLISH
chmod +x /srv/publish.sh
/srv/publish.sh
printf %s "$fingerprint" >/srv/repository/fingerprint
