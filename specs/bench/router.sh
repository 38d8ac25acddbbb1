#!/usr/bin/env bash
# The router row of bin/bench: CPU time a request at keep-alive, small answers, access lines on,
# for our router, HAProxy and nginx, side by side in one run, with 100 and with 100,000 routes.
#
# Needs wrk, haproxy and nginx (Debian packages) and `cargo build --release -p gorouter --example router_bench`.
# Settings: CONNECTIONS (64), SECONDS_EACH (8), ROUNDS (3), THREADS (1, of each router), ROUTES ("100 100000").
set -euo pipefail
cd "$(dirname "$0")/../.."
bench=${ROUTER_BENCH:-${CARGO_TARGET_DIR:-target}/release/examples/router_bench}
connections=${CONNECTIONS:-64} seconds=${SECONDS_EACH:-8} rounds=${ROUNDS:-3} threads=${THREADS:-1} routes=${ROUTES:-100 100000}
for tool in wrk haproxy nginx "$bench"; do
    command -v "$tool" >/dev/null || { echo "router row: $tool is missing" >&2; exit 2; }
done

work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

base=${PORT_BASE:-18200}
backend=$base ours=$((base + 1)) status=$((base + 2)) peer_haproxy=$((base + 3)) peer_nginx=$((base + 4))
mkdir -p "$work/router_bench"

# --- the backend: a static answer, no logs
cat >"$work/backend.conf" <<END
worker_processes 1; daemon off; pid $work/backend.pid; error_log stderr crit;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  server { listen 127.0.0.1:$backend; location / { default_type text/plain; return 200 "hello from the app\n"; } } }
END
nginx -p "$work" -c "$work/backend.conf" & pids+=($!)
"$bench" drain "$work/agent.sock" "$work/syslog.sock" & pids+=($!)

# --- requests: hosts in turn over the whole table
cat >"$work/hosts.lua" <<'END'
local count, at, requests = tonumber(os.getenv("BENCH_ROUTES")), 0, {}
function init()
  -- A stride that visits the table in no order that a cache would like.
  for i = 1, math.min(count, 20000) do
    requests[i] = wrk.format("GET", "/some/path?x=y", { Host = "host-" .. ((i * 7919) % count) .. ".bench", ["User-Agent"] = "bench" })
  end
end
function request() at = at % #requests + 1; return requests[at] end
END

# CPU ticks of a process and its children (nginx's workers).
ticks() {
    local sum=0 pid
    for pid in "$1" $(pgrep -P "$1" || true); do
        sum=$((sum + $(sed 's/.*) //' "/proc/$pid/stat" | awk '{print $12 + $13}')))
    done
    echo "$sum"
}

# measure <pid> <port>: prints microseconds a request and requests a second
measure() {
    local before after out done rate
    wrk -t1 -c"$connections" -d1s -s "$work/hosts.lua" "http://127.0.0.1:$2/" >/dev/null
    before=$(ticks "$1")
    out=$(wrk -t1 -c"$connections" -d"${seconds}s" -s "$work/hosts.lua" "http://127.0.0.1:$2/")
    after=$(ticks "$1")
    if grep -q "Non-2xx\|Socket errors" <<<"$out"; then echo "$out" >&2; exit 1; fi
    done=$(awk '/requests in/ {print $1}' <<<"$out") rate=$(awk '/Requests\/sec/ {print $2}' <<<"$out")
    awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$done" -v r="$rate" 'BEGIN {printf "%.1f %.0f\n", t / hz * 1e6 / n, r}'
}

wait_port() { for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; echo "port $1 stays closed" >&2; cat "$work"/*.log >&2 2>/dev/null; exit 1; }
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR + 1) / 2)]}'; }

wait_port "$backend"
printf '%-9s %-9s %12s %12s %10s\n' routes router "us/request" "requests/s" "x haproxy"
for count in $routes; do
    export BENCH_ROUTES=$count
    TMPDIR=$work "$bench" router "$ours" "$status" "$work/agent.sock" "$backend" "$count" "$threads" 2>"$work/router.log" & router=$!; pids+=($router)

    for i in $(seq 0 $((count - 1))); do echo "host-$i.bench app"; done >"$work/hosts.map"
    cat >"$work/haproxy.cfg" <<END
global
  nbthread $threads
  log $work/syslog.sock len 4096 local0
  maxconn 4000
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 5s
  timeout client 900s
  timeout server 900s
frontend front
  bind 127.0.0.1:$peer_haproxy
  unique-id-format %{+X}o\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  use_backend %[req.hdr(host),lower,map($work/hosts.map,none)]
backend app
  server one 127.0.0.1:$backend
backend none
  http-request deny deny_status 404
END
    haproxy -db -q -f "$work/haproxy.cfg" 2>"$work/haproxy.log" & haproxy=$!; pids+=($haproxy)

    { echo "map_hash_max_size 262144; map_hash_bucket_size 128;"; echo 'map $host $app { default "";'
      for i in $(seq 0 $((count - 1))); do echo "host-$i.bench app;"; done; echo "}"; } >"$work/map.conf"
    cat >"$work/nginx.conf" <<END
worker_processes $threads; daemon off; pid $work/nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http { access_log $work/access.log combined; keepalive_requests 1000000000; keepalive_timeout 600s;
  include $work/map.conf;
  upstream app { server 127.0.0.1:$backend; keepalive 128; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:$peer_nginx; location / {
    if (\$app = "") { return 404; }
    proxy_pass http://\$app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host;
    proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto \$scheme;
    proxy_set_header X-Request-Id \$request_id; } } }
END
    nginx -p "$work" -c "$work/nginx.conf" & nginx=$!; pids+=($nginx)

    wait_port "$ours"; wait_port "$peer_haproxy"; wait_port "$peer_nginx"
    last="host-$((count - 1)).bench"
    for port in "$ours" "$peer_haproxy" "$peer_nginx"; do
        for _ in $(seq 300); do curl -sf -o /dev/null -H "Host: $last" "http://127.0.0.1:$port/" && break; sleep 0.1; done
    done
    for round in $(seq "$rounds"); do
        measure "$router" "$ours" >>"$work/ours.$count"
        measure "$haproxy" "$peer_haproxy" >>"$work/haproxy.$count"
        measure "$nginx" "$peer_nginx" >>"$work/nginx.$count"
        : >"$work/access.log"
    done
    base_us=$(cut -d' ' -f1 "$work/haproxy.$count" | median)
    for name in ours haproxy nginx; do
        us=$(cut -d' ' -f1 "$work/$name.$count" | median) rate=$(cut -d' ' -f2 "$work/$name.$count" | median)
        printf '%-9s %-9s %12s %12s %10s\n' "$count" "$name" "$us" "$rate" "$(awk -v a="$us" -v b="$base_us" 'BEGIN {printf "%.2f", a / b}')"
    done
    for pid in $router $haproxy $nginx; do kill "$pid"; wait "$pid" 2>/dev/null || true; done
done
