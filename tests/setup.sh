#!/bin/sh
# setup.sh PACKAGE... - install what is missing of these Debian packages. `make setup` has the list.
set -u
if ! command -v apt-get >/dev/null 2>&1; then
    echo "This is no Debian system. \`make check\` and \`make bench\` use what Debian calls:"
    printf '  %s\n' "$@"
    echo "A tool that is not there is named and its part skipped."
    exit 0
fi

# A package that is named like its command is there if the command is, wherever that came from.
missing() {
    for package in "$@"; do
        command -v "$package" >/dev/null 2>&1 ||
            dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q ' ok installed' ||
            printf '%s ' "$package"
    done
}

wanted=$(missing "$@")
[ -z "$wanted" ] && echo "setup: everything is installed" && exit 0
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
$sudo apt-get update || echo "setup: apt-get update failed; going on with the lists that are here"
known=
for package in $wanted; do
    if apt-cache show "$package" >/dev/null 2>&1; then
        known="$known $package"
    fi
done
# shellcheck disable=SC2086 # a list of words
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
# shellcheck disable=SC2086 # a list of words
[ -z "$known" ] || install $known ||
    for package in $known; do install "$package"; done # one that conflicts must not keep the others
wanted=$(missing "$@")
[ -z "$wanted" ] && echo "setup: everything is installed" && exit 0
echo "setup: could not be had: $wanted"
exit 1
