#!/bin/sh
# Makes what examples/maintenance.toml looks after, below target/maintenance in the present folder: a Redis server, a
# repository, a certificate and a password, a cache, and runs that will fail. `prepare.sh stop` ends the server.
#
# Needs redis-server, git and openssl. SCHEDULER names the program; without it cargo builds and runs it.
set -eu

here=target/maintenance
# As a server tells its folder: without links.
root=$(pwd -P)

scheduler() {
    if [ -n "${SCHEDULER:-}" ]; then "$SCHEDULER" "$@"; else cargo run --quiet --release -- "$@"; fi
}

is_ours() { timeout 5 redis-cli -p "$1" config get dir 2> /dev/null | grep -qxF "$root/$here"; }

stop() {
    if [ -s "$here/redis-url" ]; then
        port=$(sed 's|.*:\([0-9]*\)/$|\1|' "$here/redis-url")
        if is_ours "$port"; then redis-cli -p "$port" shutdown nosave || true; fi
        rm -f "$here/redis-url"
    fi
}

if [ "${1:-}" = stop ]; then
    stop
    exit
fi
for program in redis-server redis-cli git openssl; do
    if ! command -v "$program" > /dev/null; then
        echo "$program is missing; on Debian: apt-get install redis-server git openssl" >&2
        exit 1
    fi
done
stop
rm -rf "$here"
mkdir -p "$here/cache" "$here/secrets"

# A Redis server on the first free port. It answers the health check and holds sessions that never expire.
for port in $(seq 16379 16478); do
    : > "$here/redis.log"
    redis-server --port "$port" --bind 127.0.0.1 --save '' --daemonize yes --dir "$root/$here" \
        --pidfile "$root/$here/redis.pid" --logfile "$root/$here/redis.log" > /dev/null
    for _ in $(seq 100); do
        if grep -q "in use" "$here/redis.log" || is_ours "$port"; then break; fi
        sleep 0.1
    done
    if is_ours "$port"; then break; fi
done
if ! is_ours "$port"; then
    echo "redis-server did not start; $here/redis.log says why" >&2
    exit 1
fi
echo "redis://127.0.0.1:$port/" > "$here/redis-url"
for session in 1 2 3; do
    redis-cli -p "$port" set "session:$session" abandoned > /dev/null
    redis-cli -p "$port" set "live:$session" used ex 3600 > /dev/null
done

# A cache with old pages and new ones.
for page in 1 2 3; do
    echo "old page $page" > "$here/cache/old-$page.html"
    echo "new page $page" > "$here/cache/new-$page.html"
done
touch -d "40 days ago" "$here"/cache/old-*.html

# A certificate of last year that ends in three days, and a password that is a hundred days old.
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=shop.example \
    -keyout "$here/secrets/shop.key" -out "$here/secrets/shop.csr" 2> /dev/null
cat > "$here/secrets/ca.cnf" <<CA
[ca]
default_ca = own
[own]
database = $here/secrets/index.txt
new_certs_dir = $here/secrets
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
CA
: > "$here/secrets/index.txt"
openssl ca -batch -selfsign -notext -config "$here/secrets/ca.cnf" -keyfile "$here/secrets/shop.key" \
    -in "$here/secrets/shop.csr" -out "$here/secrets/shop.pem" \
    -startdate "$(date -u -d '1 year ago' +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d '3 days' +%Y%m%d%H%M%SZ)" 2> /dev/null
(umask 077 && echo first > "$here/secrets/password")
touch -d "100 days ago" "$here/secrets/password"

# A repository with one commit.
git init --quiet --initial-branch=main "$here/site"
git -C "$here/site" -c user.name=A -c user.email=a@example.com commit --quiet --allow-empty -m "first"

# Three runs of a task that fails while the warehouse is away; each becomes a dead letter.
for order in 1 2 3; do
    scheduler trigger import --param "order=$order" --config examples/maintenance.toml
done
