# MariaDB on the volume.
# shellcheck shell=sh disable=SC2154
data=$SERVER_VOLUME/mariadb

if [ ! -e "$data" ]; then
    rm -rf "$data.new"
    mkdir "$data.new"
    mariadb-install-db --no-defaults --skip-test-db --skip-name-resolve --auth-root-authentication-method=normal \
        --innodb-log-file-size=48M --datadir="$data.new" >"$work/install.log" 2>&1 || fail "$(cat "$work/install.log")"
    mv "$data.new" "$data"
    sync -f "$SERVER_VOLUME"
fi

# Run by the server before it lets anybody in: the administrator is there, over TLS, and none of those that a new data folder has.
cat >"$work/init.sql" <<STATEMENTS
DELETE FROM mysql.global_priv WHERE User IN ('', 'root');
DELETE FROM mysql.db WHERE User = '';
FLUSH PRIVILEGES;
CREATE USER IF NOT EXISTS cupola@'%' REQUIRE SSL;
ALTER USER cupola@'%' IDENTIFIED BY '$password' REQUIRE SSL;
GRANT ALL PRIVILEGES ON *.* TO cupola@'%' WITH GRANT OPTION;
STATEMENTS
unset password
mkdir "$work/tmp" "$work/no-files"

# Temporary tables that do not fit in memory lie in the volume, which is bounded.
mkdir -p "$SERVER_VOLUME/tmp"

exec /usr/sbin/mariadbd --no-defaults --datadir="$data" --init-file="$work/init.sql" \
    --socket="$work/server.sock" --pid-file="$work/server.pid" --tmpdir="$SERVER_VOLUME/tmp" \
    --bind-address="${SERVER_ADDRESS:-*}" --port="$SERVER_PORT" --skip-name-resolve \
    --ssl-cert="$work/server.pem" --ssl-key="$work/server.key" --tls-version=TLSv1.2,TLSv1.3 --require-secure-transport=ON \
    --max-connections=$((SERVER_CONNECTIONS + 20)) --max-connect-errors=4294967295 --connect-timeout=15 \
    --max-statement-time=600 --lock-wait-timeout=60 --innodb-lock-wait-timeout=50 --max-allowed-packet=64M \
    --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci \
    --innodb-buffer-pool-size=$((SERVER_MEMORY_MB * 3 / 8))M --innodb-log-file-size=48M \
    --innodb-flush-log-at-trx-commit=1 --innodb-file-per-table=ON \
    --innodb-temp-data-file-path=ibtmp1:12M:autoextend:max:$((SERVER_DISK_MB / 8))M \
    --key-buffer-size=8M --aria-pagecache-buffer-size=16M --performance-schema=OFF --table-open-cache=1000 \
    --symbolic-links=OFF --local-infile=OFF --secure-file-priv="$work/no-files" --event-scheduler=OFF --general-log=OFF \
    --log-warnings=1 --skip-log-bin
