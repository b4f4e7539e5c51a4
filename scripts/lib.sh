# shellcheck shell=bash
# What the scripts here share. Source it; it starts nothing and changes nothing.

# A fixed, complete PATH: sudo and containers leave out the sbin directories.
export PATH="$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"

started_at=$EPOCHREALTIME

# elapsed prints the seconds since this script began as mm:ss.
elapsed() {
    local s=$((${EPOCHREALTIME%[.,]*} - ${started_at%[.,]*}))
    printf '%02d:%02d' $((s / 60)) $((s % 60))
}

# log prints one progress line to stderr: stdout belongs to results.
log() { printf '[%s] %s\n' "$(elapsed)" "$*" >&2; }

# die ends the script with a message and exit code 1.
die() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# usage_error is die for a command line nobody can make sense of.
usage_error() {
    printf '%s: error: %s\nTry: %s --help\n' "${0##*/}" "$*" "$0" >&2
    exit 2
}

# need_go stops when Go is missing, or too old to fetch the version that go.mod
# names.
need_go() {
    local version
    command -v go >/dev/null || die "Go is not installed (1.21 or newer)"
    version=$(GOTOOLCHAIN=local go env GOVERSION)
    [[ $(printf '%s\n' go1.21 "$version" | sort -V | head -n 1) == go1.21 ]] ||
        die "Go 1.21 or newer is needed, which fetches what go.mod names; this is $version"
}

need_root() { ((EUID == 0)) || die "must run as root (try: sudo $0)"; }

# cache_dir prints the directory that keeps what takes long to build.
cache_dir() { printf '%s\n' "${RUBUS_CACHE:-/var/cache/rubus}"; }

# have_packages succeeds when dpkg has every named package installed.
have_packages() {
    local n
    n=$(dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null | grep -c '^ii') || true
    ((n == $#))
}

# register_arm64 lets the kernel run arm64 programs through qemu-user. It
# returns with binfmt_misc mounted in the mount namespace it was called in, so
# call it in one of its own.
register_arm64() { register_foreign aarch64; }

# register_arm does so for programs of 32 bits.
register_arm() { register_foreign arm; }

register_foreign() {
    local dir=/proc/sys/fs/binfmt_misc conf=/usr/lib/binfmt.d/qemu-$1.conf
    [[ -e $dir/register ]] || mount -t binfmt_misc binfmt_misc "$dir" ||
        die "cannot mount binfmt_misc: the kernel cannot run foreign programs"
    [[ -e $dir/qemu-$1 ]] && return
    [[ -r $conf ]] || die "missing $conf (package qemu-user-static; run scripts/deps)"
    # Somebody else may have been faster: all of the machine has one table.
    tr -d '\n' <"$conf" >"$dir/register" || [[ -e $dir/qemu-$1 ]] ||
        die "cannot register the emulator of $1"
}
