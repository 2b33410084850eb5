#!/bin/sh
# Serve an apt repository like Docker's on http://127.0.0.1:8099/linux, out of Debian's packages, and print its key's fingerprint.
set -eu
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/srv/gnupg
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)

{
    apt-get update -q
    apt-get install -qy --no-install-recommends apt-utils dpkg-dev gnupg python3
} >&2
mkdir -p /srv/packages /srv/lists/partial /srv/repository/linux/debian/pool
cd /srv/packages
# Always Debian 13's, because Debian 12 has no Compose v2. They ask for nothing newer than what Debian 12 has.
sed "s/$codename/trixie/g" /etc/apt/sources.list >/srv/sources.list
trixie() {
    apt-get -q -o Dir::Etc::SourceList=/srv/sources.list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=/srv/lists \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@" >&2
}
trixie update
trixie download docker.io docker-cli docker-compose docker-buildx containerd

# repack DEBIAN-PACKAGE DOCKER-PACKAGE DEPENDENCIES
repack() {
    rm -rf unpacked
    dpkg-deb --raw-extract "$1"_*.deb unpacked
    sed -i -e "s/^Package:.*/Package: $2/" -e "s/^Depends:.*/Depends: $3/" \
        -e '/^\(Breaks\|Replaces\|Conflicts\|Recommends\|Suggests\|Source\):/d' unpacked/DEBIAN/control
    dpkg-deb -Znone --build unpacked "/srv/repository/linux/debian/pool/$2.deb" >&2
}
repack docker.io docker-ce 'containerd.io, docker-ce-cli, iptables, tini, libc6, libseccomp2, libsystemd0, adduser'
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

# Run again where a newer version comes out.
cat >/srv/publish.sh <<PUBLISH
#!/bin/sh
# Describe what the repository holds now, and sign that.
set -eu
cd /srv/repository/linux/debian
release=dists/$codename
mkdir -p "\$release/stable/binary-amd64"
dpkg-scanpackages pool >"\$release/stable/binary-amd64/Packages"
apt-ftparchive -o APT::FTPArchive::Release::Codename=$codename -o APT::FTPArchive::Release::Components=stable \\
    -o APT::FTPArchive::Release::Architectures=amd64 release "\$release" >/srv/Release
gpg --batch --yes --clearsign --output "\$release/InRelease" /srv/Release
PUBLISH
chmod +x /srv/publish.sh
/srv/publish.sh >&2

cat >/etc/systemd/system/docker-repository.service <<'UNIT'
[Service]
ExecStart=python3 -m http.server --bind 127.0.0.1 --directory /srv/repository 8099
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --quiet --now docker-repository
printf %s "$fingerprint" >/srv/repository/fingerprint
printf %s "$fingerprint"
