#!/usr/bin/env bash
# Install the programs of system_packages.txt that are missing. Nothing to do: no root needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

missing() {  # programs that are not on PATH, with their packages
    sed 's/#.*//' system_packages.txt | while read -r program package; do
        [ -z "$program" ] || command -v "$program" >/dev/null || echo "$program $package"
    done
}

wanted=$(missing)
if [ -z "$wanted" ]; then
    echo "system programs: all present"
    exit 0
fi
programs=$(cut -d' ' -f1 <<<"$wanted" | xargs)
packages=$(cut -d' ' -f2- <<<"$wanted" | xargs)
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "missing: $programs; run 'make system' as root on Debian or Ubuntu, or install by hand: $packages" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 -- a list of names
apt-get install -q -y --no-install-recommends $packages
still=$(missing)
if [ -n "$still" ]; then
    echo "still missing after installation: $still" >&2
    exit 1
fi
