#!/bin/sh
# Build an emulated arm64 board in .edge: Debian's arm64 Python under qemu-user with a cortex-a72 processor, without
# /sys, and the base wheel of this checkout in it. .edge/latency-service is the command on the board.
# Needs an x86-64 Debian with apt, dpkg and unshare, and its package mirror; no root. What is there already is kept.
# usage: edge_board.sh PYTHON
set -eu
python=$1
checkout=$(cd "$(dirname "$0")/.." && pwd)
board=$checkout/.edge
for need in apt-get dpkg-deb unshare; do
    command -v $need >/dev/null || { echo "$need is not here: the emulated board needs an x86-64 Debian" >&2; exit 2; }
done
unshare -rm true || { echo "user namespaces are not permitted here: the board cannot be cut off from /sys" >&2; exit 2; }
mkdir -p "$board/debs" "$board/apt/lists/partial" "$board/apt/cache/archives/partial"

if [ ! -x "$board/qemu/usr/bin/qemu-aarch64-static" ]; then
    (cd "$board/debs" && apt-get download -q qemu-user-static)
    dpkg-deb -x "$board"/debs/qemu-user-static_*.deb "$board/qemu"
fi

if [ ! -e "$board/root/usr/bin/python3" ]; then
    cat >"$board/apt/conf" <<CONF
Dir::State "$board/apt";
Dir::State::status "$board/apt/status";
Dir::State::lists "$board/apt/lists";
Dir::Cache "$board/apt/cache";
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Debug::NoLocking "true";
CONF
    : >"$board/apt/status"
    export APT_CONFIG="$board/apt/conf"
    apt-get update -q
    apt-get install -q -y --download-only --no-install-recommends python3 libstdc++6
    unset APT_CONFIG
    for package in "$board"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$board/root"
    done
fi

version=$(basename "$(readlink "$board/root/usr/bin/python3")")
cat >"$board/python" <<RUN
#!/bin/sh
export PYTHONHOME="$board/root/usr" PYTHONPATH="$board/site"
exec "$board/qemu/usr/bin/qemu-aarch64-static" -cpu cortex-a72 -L "$board/root" -0 "$board/python" "$board/root/usr/bin/$version" "\$@"
RUN
cat >"$board/latency-service" <<RUN
#!/bin/sh
exec unshare -rm sh -c 'mount -t tmpfs none /sys && exec "\$@"' board "$board/python" -m latency_service "\$@"
RUN
chmod +x "$board/python" "$board/latency-service"

rm -rf "$board/wheel"
"$python" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir "$board/wheel" "$checkout"
platforms=""
for glibc in 17 26 27 28 34; do
    platforms="$platforms --platform manylinux_2_${glibc}_aarch64"
done
# shellcheck disable=SC2086
"$python" -m pip install -q --disable-pip-version-check --upgrade --target "$board/site" $platforms \
    --platform manylinux2014_aarch64 --python-version "${version#python}" --only-binary=:all: "$board"/wheel/*.whl
echo "the board is in $board"
