#!/bin/sh
# Builds the control plane that the tests run against, from pinned Go modules.
#
# The only line on stdout is the folder that holds etcd, kube-apiserver,
# kube-controller-manager and kubectl; everything else goes to stderr.
# README.md beside this file lists the variables that change what it does.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${CURFEW_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set: set CURFEW_CACHE}/.cache}/curfew}/plane
staging=$cache/staging.$$
ticker=
mkdir_lock=
locked=
tools='etcd kube-apiserver kubectl kube-controller-manager'

exec 3>&1 1>&2
export CGO_ENABLED=0 GOWORK=off

say() { printf 'plane: %s\n' "$*"; }
fail() { say "$*"; exit 1; }
seconds() { date +%s; }

clean_up() {
    [ -z "$ticker" ] || kill "$ticker" 2>/dev/null || :
    rm -rf -- "$staging"
    [ -z "$mkdir_lock" ] || rm -rf -- "$mkdir_lock"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

sha16() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

pinned_version() {
    sed -n 's|^[[:space:]]*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' "$here/go.mod"
}

package_of() {
    case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
    esac
}

# One build at a time on a machine: a second caller waits, then finds it done.
# What a killed build left behind is removed by the next.
lock() {
    [ -z "$locked" ] || return 0
    locked=yes
    mkdir -p -- "$cache"
    take_lock
    rm -rf -- "$cache"/staging.*
}

take_lock() {
    if command -v flock >/dev/null; then
        exec 9>"$cache/lock"
        flock -n 9 || { say 'another build is running; waiting for it'; flock 9; }
        return
    fi
    told=
    until mkdir "$cache/lock.d" 2>/dev/null; do
        holder=$(cat "$cache/lock.d/pid" 2>/dev/null || :)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf -- "$cache/lock.d"
            continue
        fi
        [ -n "$told" ] || say 'another build is running; waiting for it'
        told=yes
        sleep 1
    done
    mkdir_lock=$cache/lock.d
    echo $$ >"$mkdir_lock/pid"
}

# Makes $module, a module file for another Kubernetes version: what Kubernetes' own
# module file replaces by its staging folders is replaced by the published
# modules of the same release.
derive_module() {
    module=$cache/module-$version
    [ ! -f "$module/go.mod" ] || return 0
    lock
    [ ! -f "$module/go.mod" ] || return 0
    say "resolving the modules of Kubernetes $version"
    mkdir -p -- "$staging"
    upstream=$(go mod download -json "k8s.io/kubernetes@v$version" |
        sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p')
    [ -f "$upstream" ] || fail "the module proxy does not serve Kubernetes $version"
    {
        printf 'module curfew/plane\n\n'
        sed -n '/^go /p; /^godebug /p' "$upstream"
        printf 'require k8s.io/kubernetes v%s\n' "$version"
        printf 'require go.etcd.io/etcd/server/v3 %s\n' \
            "$(sed -n 's|^[[:space:]]*go.etcd.io/etcd/client/v3 \(v[0-9.]*\).*|\1|p' "$upstream")"
        sed -n "s|^[[:space:]]*\(k8s.io/[^ ]*\) => ./staging.*|replace \1 => \1 v0.${version#1.}|p" "$upstream"
        for tool in $tools; do printf 'tool %s\n' "$(package_of "$tool")"; done
    } >"$staging/go.mod"
    (cd "$staging" && go mod tidy)
    mv -- "$staging" "$module"
}

# build_tool NAME PACKAGE: to a temporary name first, so that an interrupted
# build leaves no half file.
build_tool() {
    name=$1 package=$2
    began=$(seconds)
    (i=0; while sleep 1; do
        i=$((i + 1))
        [ $((i % 30)) -ne 0 ] || say "  $name: $i s"
    done) 3>&- 9>&- &
    ticker=$!
    mkdir -p -- "$staging"
    (cd "$module" && go build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" -o "$staging/$name" "$package" 3>&-)
    kill "$ticker" 2>/dev/null || :
    ticker=
    mv -- "$staging/$name" "$out/$name"
    say "$position $name: built in $(($(seconds) - began)) s"
}

missing_of() {
    for tool in $1; do [ -x "$out/$tool" ] || printf '%s ' "$tool"; done
}

# build_all TOOLS: sets $out to a folder that holds them, for $version.
build_all() {
    command -v go >/dev/null || fail 'Go is needed to build the control plane (or KUBEBUILDER_ASSETS)'
    module=$here
    if [ "$version" != "$(pinned_version)" ]; then
        derive_module
    fi
    key=$version-$( (cat "$module/go.mod" "$module/go.sum"; go env GOVERSION) | sha16)
    out=$cache/$key
    [ -n "$(missing_of "$1")" ] || return 0
    lock
    missing=$(missing_of "$1")
    [ -n "$missing" ] || return 0
    mkdir -p -- "$out"
    flags='-s -w'
    minor=${version#*.}
    for stamped in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags="$flags -X $stamped.gitVersion=v$version"
        flags="$flags -X $stamped.gitMajor=${version%%.*} -X $stamped.gitMinor=${minor%%.*}"
        flags="$flags -X $stamped.gitTreeState=clean -X $stamped.buildDate=2026-01-01T00:00:00Z"
        flags="$flags -X $stamped.gitCommit=0000000000000000000000000000000000000000"
    done
    # shellcheck disable=SC2086 # a list of names without blanks
    set -- $missing
    say "building Kubernetes $version: $*; the first time takes 10 to 20 minutes on 2 cores"
    started=$(seconds) i=0 n=$#
    for tool in "$@"; do
        i=$((i + 1)) position="$i/$n"
        say "$position $tool: building, $(($(seconds) - started)) s so far"
        build_tool "$tool" "$(package_of "$tool")"
    done
    say "built in $(($(seconds) - started)) s"
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    given=$(CDPATH='' cd -- "$KUBEBUILDER_ASSETS" && pwd)
    for tool in etcd kube-apiserver kubectl; do
        [ -x "$given/$tool" ] || fail "KUBEBUILDER_ASSETS has no $tool; unset it to build one"
    done
    if [ -x "$given/kube-controller-manager" ]; then
        printf '%s\n' "$given" >&3
        exit 0
    fi
    # The controller-manager has to be of the given API server's version.
    version=$("$given/kube-apiserver" --version | sed 's/^Kubernetes v\([0-9.]*\).*/\1/')
    say "KUBEBUILDER_ASSETS has no kube-controller-manager; it is built for $version"
    build_all kube-controller-manager
    joined=$cache/assets-$version-$(printf '%s %s' "$given" "$out" | sha16)
    mkdir -p -- "$joined"
    for tool in etcd kube-apiserver kubectl; do ln -sf -- "$given/$tool" "$joined/$tool"; done
    ln -sf -- "$out/kube-controller-manager" "$joined/kube-controller-manager"
    printf '%s\n' "$joined" >&3
    exit 0
fi

version=${KUBERNETES:-$(pinned_version)}
version=${version#v}
build_all "$tools"
printf '%s\n' "$out" >&3
