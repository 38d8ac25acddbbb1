# The start command of a dedicated server, for /bin/sh: what all have in common, before the part of its kind.
#
# From the environment: SERVER_VOLUME (a folder that stays), SERVER_PORT, SERVER_MEMORY_MB, SERVER_DISK_MB, SERVER_CONNECTIONS,
# SERVER_PASSWORD (of the administrator, letters and digits), SERVER_CERTIFICATE and SERVER_KEY (PEM).
# For that part: $data (the data folder, made under another name first), $work (private, gone with the container).
# shellcheck shell=sh disable=SC2034
set -eu
umask 077

fail() {
    echo "$*" >&2
    exit 1
}

# Held by the server too, as long as any process of it lives: two never share a volume.
exec 9>"$SERVER_VOLUME/lock"
flock -w 60 9 || fail "another server still uses the volume"

# A ballast in the volume makes room for the server to recover in, should its data ever fill all the rest.
ballast=$SERVER_VOLUME/ballast
free_mb=$(($(stat -f -c '%a * %S' "$SERVER_VOLUME") / 1048576))
if [ "$free_mb" -lt 16 ]; then
    rm -f "$ballast"
elif [ ! -e "$ballast" ] && [ "$free_mb" -gt 160 ]; then
    fallocate -l 32M "$ballast" || rm -f "$ballast"
fi

work=$(mktemp -d)
printf '%s' "$SERVER_CERTIFICATE" >"$work/server.pem"
printf '%s' "$SERVER_KEY" >"$work/server.key"
password=$SERVER_PASSWORD
unset SERVER_PASSWORD SERVER_CERTIFICATE SERVER_KEY
cd "$work"
