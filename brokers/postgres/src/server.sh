# PostgreSQL on the volume.
# shellcheck shell=sh disable=SC2154
data=$SERVER_VOLUME/postgres

# Of the version that made the data; else the newest.
if [ -e "$data/PG_VERSION" ]; then
    bin=/usr/lib/postgresql/$(cat "$data/PG_VERSION")/bin
    [ -x "$bin/postgres" ] || fail "this stack has no PostgreSQL $(cat "$data/PG_VERSION"), which made the data"
else
    bin=$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1)
    bin=${bin%/initdb}
    [ -n "$bin" ] || fail "this stack has no PostgreSQL"
    rm -rf "$data.new"
    printf '%s' "$password" >"$work/password"
    "$bin/initdb" --username=cupola --pwfile="$work/password" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
        --data-checksums -D "$data.new" >/dev/null
    rm "$work/password"
    mv "$data.new" "$data"
    sync -f "$SERVER_VOLUME"
fi
unset password

cat >"$work/hba.conf" <<'RULES'
# The administrator; its tools, into databases that their owner may connect to; and everybody else into the database whose owner
# role has the same name and has them as a member
hostssl   all       cupola         all    scram-sha-256
host      all       cupola         all    reject
hostssl   all       +cupola_tools  all    scram-sha-256
hostssl   samerole  all            all    scram-sha-256
RULES

# Another container left it, with the number of a process that may be anybody here; the lock says that it is gone.
rm -f "$data/postmaster.pid"
shared_memory=mmap
[ -w /dev/shm ] && shared_memory=posix

set -- -D "$data" \
    -c hba_file="$work/hba.conf" -c ident_file=/dev/null \
    -c listen_addresses="${SERVER_ADDRESS:-*}" -c port="$SERVER_PORT" -c unix_socket_directories= \
    -c ssl=on -c ssl_cert_file="$work/server.pem" -c ssl_key_file="$work/server.key" -c ssl_min_protocol_version=TLSv1.2 \
    -c password_encryption=scram-sha-256 -c authentication_timeout=15s \
    -c max_connections=$((SERVER_CONNECTIONS + 14)) -c superuser_reserved_connections=12 \
    -c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=6 -c client_connection_check_interval=10s \
    -c shared_buffers=$((SERVER_MEMORY_MB / 4))MB -c effective_cache_size=$((SERVER_MEMORY_MB / 2))MB \
    -c work_mem=4MB -c maintenance_work_mem=$((SERVER_MEMORY_MB / 16))MB -c autovacuum_work_mem=$((SERVER_MEMORY_MB / 16))MB \
    -c dynamic_shared_memory_type=$shared_memory -c huge_pages=off -c jit=off \
    -c max_worker_processes=4 -c max_parallel_workers=2 -c max_parallel_workers_per_gather=1 \
    -c max_parallel_maintenance_workers=1 -c autovacuum_max_workers=2 -c max_prepared_transactions=0 \
    -c wal_level=minimal -c max_wal_senders=0 -c min_wal_size=32MB -c max_wal_size=$((SERVER_DISK_MB / 8))MB \
    -c checkpoint_timeout=10min -c temp_file_limit=$((SERVER_DISK_MB / 8))MB \
    -c statement_timeout=10min -c lock_timeout=1min -c idle_in_transaction_session_timeout=10min \
    -c logging_collector=off -c log_destination=stderr -c log_line_prefix='%m [%p] %q%u@%d ' -c log_checkpoints=off \
    -c log_error_verbosity=terse -c log_min_error_statement=panic -c log_parameter_max_length_on_error=0 -c log_timezone=UTC -c cluster_name=cupola

# TERM would have the server wait for every client; INT ends their sessions and writes a checkpoint.
"$bin/postgres" "$@" &
server=$!
trap 'kill -INT "$server"' INT TERM
status=0
while kill -0 "$server" 2>/dev/null; do
    status=0
    wait "$server" || status=$?
done
exit "$status"
