#!/bin/sh
# Fills in what only the container knows, then becomes nginx. The app's folder may be read-only: all that is written goes to TMPDIR.
set -eu
here=${NGINX_DIR:-$(dirname "$(readlink -f "$0")")}
case $PORT in *[!0-9]* | '') echo "PORT is not a number: '$PORT'" >&2; exit 1 ;; esac
work=$(mktemp -d "${TMPDIR:-/tmp}/nginx.XXXXXX")
access=/dev/stdout
# In a shell of its own, because a redirection that fails ends this one.
if ! (: >> /dev/stdout) 2>/dev/null && [ -z "${CHECK_ONLY:-}" ]; then
  # Our output belongs to somebody else and cannot be opened again: a pipe of our own carries the access lines to it.
  access=$work/access
  mkfifo "$access"
  cat < "$access" &
fi
[ -z "${CHECK_ONLY:-}" ] || access=/dev/null
sed -e "s|((PORT))|$PORT|g" -e "s|((WORK))|$work|g" -e "s|((NGINX))|$here|g" -e "s|((ACCESS))|$access|g" "$here/nginx.conf.template" > "$work/nginx.conf"
cp "$here/mime.types" "$work/mime.types"
program=$(cat "$here/program")
if [ -n "${CHECK_ONLY:-}" ]; then
  status=0
  "$program" -t -q -e stderr -p "$work" -c "$work/nginx.conf" || status=$?
  rm -rf "$work"
  exit $status
fi
# A configuration of the app's own may say it already.
daemon='daemon off;'
! grep -q '^[[:space:]]*daemon' "$work/nginx.conf" || daemon=
exec "$program" -e stderr -p "$work" -c "$work/nginx.conf" -g "$daemon"
