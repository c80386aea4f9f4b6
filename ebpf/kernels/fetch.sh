#!/bin/sh
# Brings kernels of Debian and Ubuntu, the modules that tests need of them, busybox
# and QEMU into .cache/kernels, from
# the distributions' archives with apt-get and its signatures; nothing is
# installed. What cannot be had is left out, and its tests are skipped.
#
#	ebpf/kernels/fetch.sh <cache directory>
set -e
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "apt-get and dpkg are missing; no kernels can be fetched"; exit 0; }
mkdir -p "$1"
cache=$(cd "$1" && pwd)
# Suite and package of each kernel; the first version that is served is taken.
kernels="
4.4-amd64 linux-image-unsigned-4.4.0-[0-9]+-generic
4.15-amd64 linux-image-unsigned-4.15.0-[0-9]+-generic
4.18-amd64 linux-image-unsigned-4.18.0-[0-9]+-generic
5.4-amd64 linux-image-unsigned-5.4.0-[0-9]+-generic
5.8-amd64 linux-image-unsigned-5.8.0-[0-9]+-generic
5.10-amd64 linux-image-5.10.0-[0-9]+-cloud-amd64
5.10-arm64 linux-image-5.10.0-[0-9]+-cloud-arm64
5.11-amd64 linux-image-unsigned-5.11.0-[0-9]+-generic
5.13-amd64 linux-image-unsigned-5.13.0-[0-9]+-generic
5.15-amd64 linux-image-unsigned-5.15.0-[0-9]+-generic
5.19-amd64 linux-image-unsigned-5.19.0-[0-9]+-generic
6.1-amd64 linux-image-6.1.0-[0-9]+-cloud-amd64
6.1-arm64 linux-image-6.1.0-[0-9]+-cloud-arm64
6.2-amd64 linux-image-unsigned-6.2.0-[0-9]+-generic
6.8-amd64 linux-image-unsigned-6.8.0-[0-9]+-generic
6.12-amd64 linux-image-6.12.[0-9]+[^-]*-cloud-amd64
6.12-arm64 linux-image-6.12.[0-9]+[^-]*-cloud-arm64
"
apt=$cache/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$cache/deb"
touch "$apt/status"
debian=/usr/share/keyrings/debian-archive-keyring.gpg
ubuntu=$apt/keys/usr/share/keyrings/ubuntu-archive-keyring.gpg
cat >"$apt/apt.conf" <<EOF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
EOF
sources() {
	echo "deb [arch=amd64,arm64 signed-by=$debian] http://deb.debian.org/debian bullseye main"
	echo "deb [arch=amd64,arm64 signed-by=$debian] http://deb.debian.org/debian-security bullseye-security main"
	echo "deb [arch=amd64,arm64 signed-by=$debian] http://deb.debian.org/debian bookworm main"
	echo "deb [arch=amd64,arm64 signed-by=$debian] http://deb.debian.org/debian trixie main"
}
quietly() { APT_CONFIG=$apt/apt.conf "$@" 2>/dev/null; }
refresh() { quietly apt-get update -qq >/dev/null || echo "some package lists could not be fetched"; }
prepared=
prepare() {
	[ -z "$prepared" ] || return 0
	prepared=1
	sources >"$apt/sources.list"
	refresh
	if [ ! -f "$ubuntu" ]; then
		(cd "$cache/deb" && quietly apt-get download -qq ubuntu-keyring && dpkg -x ubuntu-keyring_*.deb "$apt/keys") || return 0
	fi
	for suite in xenial bionic focal jammy noble; do
		echo "deb [arch=amd64 signed-by=$ubuntu] http://archive.ubuntu.com/ubuntu $suite-updates main"
	done >>"$apt/sources.list"
	refresh
}

for arch in amd64 arm64; do
	[ ! -f "$cache/busybox-$arch" ] || continue
	prepare
	(cd "$cache/deb" && quietly apt-get download -qq "busybox-static:$arch" && dpkg -x busybox-static_*_$arch.deb "$apt/busybox-$arch") || continue
	cp "$(find "$apt/busybox-$arch" -type f -path "*bin/busybox")" "$cache/busybox-$arch"
done

# unpack <package> <architecture>: into $apt/kernel
unpack() {
	(cd "$cache/deb" && quietly apt-get download -qq "$1:$2") || return 1
	dpkg -x "$cache/deb/$1_"*_"$2.deb" "$apt/kernel" && rm -f "$cache/deb/$1_"*
}
# take_modules <directory>: what is found of them, without compression
take_modules() {
	mkdir -p "$1.new"
	for module in virtio-rng inet_diag tcp_diag; do
		find "$apt/kernel" -name "$module.ko*" | while read -r file; do
			case $file in
			*.xz) xz -dc "$file" ;;
			*.zst) zstd -qdc "$file" ;;
			*) cat "$file" ;;
			esac >"$1.new/$module.ko" || rm -f "$1.new/$module.ko"
		done
	done
	mv "$1.new" "$1"
}
echo "$kernels" | while read -r name pattern; do
	[ -n "$name" ] || continue
	[ ! -f "$cache/vmlinuz-$name" ] || [ ! -d "$cache/modules-$name" ] || continue
	prepare
	arch=${name#*-}
	packages=$(cat "$cache/vmlinuz-$name.package" 2>/dev/null || quietly apt-cache search -n "^$pattern\$" | cut -d' ' -f1 | sort -Vru)
	for package in $packages; do
		rm -rf "$apt/kernel"
		unpack "$package" "$arch" || continue
		case $package in # Ubuntu has the modules in a package of their own
		linux-image-unsigned-*) unpack "linux-modules-${package#linux-image-unsigned-}" "$arch" || continue ;;
		esac
		cp "$apt/kernel/boot/vmlinuz-"* "$cache/vmlinuz-$name" && chmod 644 "$cache/vmlinuz-$name"
		take_modules "$cache/modules-$name"
		echo "$package" >"$cache/vmlinuz-$name.package"
		echo "unpacked $package"
		break
	done
	[ -f "$cache/vmlinuz-$name" ] || echo "$name could not be fetched"
done

# QEMU and what it needs that this machine has not, from the machine's own sources.
if ! command -v qemu-system-x86_64 >/dev/null && [ ! -x "$cache/qemu/usr/bin/qemu-system-x86_64" ]; then
	packages=$(apt-get install -s -qq --no-install-recommends qemu-system-x86 qemu-system-arm 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p')
	mkdir -p "$cache/deb/qemu" "$cache/qemu"
	(cd "$cache/deb/qemu" && apt-get download -qq -o APT::Sandbox::User=root $packages && for deb in *.deb; do dpkg -x "$deb" "$cache/qemu"; done) >/dev/null 2>&1 \
		&& echo "unpacked QEMU" || { rm -rf "$cache/qemu"; echo "QEMU could not be fetched"; }
fi
rm -rf "$cache/deb" "$apt/kernel"
