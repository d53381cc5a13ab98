#!/bin/sh
# Sees to it that what the tests need besides Rust is there: Debian's redis-server, redis-tools the exporter of
# Prometheus, with which our server has to get along, systemd, which reads our unit, and what runs the client libraries that tools/client-deps.sh gets.
# Root gets them installed; anybody else is told what to install, and the tests do not run.
set -u
missing=
command -v redis-server >/dev/null || missing="redis-server"
{ command -v redis-cli >/dev/null && command -v redis-benchmark >/dev/null; } || missing="$missing redis-tools"
command -v prometheus-redis-exporter >/dev/null || missing="$missing prometheus-redis-exporter"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
missing=${missing# }
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need these packages: $missing" >&2
    echo "Install them, for example with: sudo apt-get install $missing" >&2
    exit 1
fi

# An installed package would start its service, which would hold port 6379: this file tells Debian's scripts not to.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi

install_them() {
    # shellcheck disable=SC2086 # a list of words is meant
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
echo "Installing for the tests: $missing"
install_them >/dev/null 2>&1 || { apt-get update && install_them; } || {
    echo "Could not install $missing." >&2
    exit 1
}

# Where the policy file is not honoured the services run now, and are stopped.
for service in redis-server prometheus-redis-exporter; do
    case " $missing " in *" $service "*) ;; *) continue ;; esac
    if command -v systemctl >/dev/null && systemctl is-active --quiet $service 2>/dev/null; then
        systemctl stop $service && systemctl disable --quiet $service
    fi
done
exit 0
