#!/bin/bash
# Puts beside a real etcd, with etcd's own benchmark tool: puts per second, latency, and CPU time of
# the server per put. The two servers take turns on one machine, A B A B, each with a fresh store, so
# that a slow disk or a busy neighbour meets both.
#
#   perf/put.sh                    two rounds of 150,000 puts each, about 2 minutes on 2 cores
#   ROUNDS=1 TOTAL=20000 SINGLE=2000 perf/put.sh
#   RINGBOLT_FLAGS=--cores=1 perf/put.sh
#
# RINGBOLT_BIN, ETCD_BIN and BENCHMARK_BIN name binaries that are there already; otherwise they are
# built, the Go ones into perf/bin. DATA is the folder for the stores, by default beside the builds:
# it decides which disk is measured.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-2}
total=${TOTAL:-150000}
single=${SINGLE:-10000}
data=${DATA:-target/perf}
port=${PORT:-24790}

built() { # built VARIABLE PATH: the binary that the variable names, else the one at the path
	local given=${!1:-}
	echo "${given:-$2}"
}
ringbolt=$(built RINGBOLT_BIN target/release/ringbolt)
etcd=$(built ETCD_BIN perf/bin/etcd)
benchmark=$(built BENCHMARK_BIN perf/bin/benchmark)
[[ -n ${RINGBOLT_BIN:-} ]] || cargo build --release --locked --quiet
if [[ -z ${ETCD_BIN:-} ]]; then
	go build -C tests/go/etcd -trimpath -o "$PWD/perf/bin/etcd" .
fi
if [[ -z ${BENCHMARK_BIN:-} ]]; then
	go build -C perf/benchtool -trimpath -o "$PWD/perf/bin/benchmark" \
		go.etcd.io/etcd/v3/tools/benchmark
fi

server=
stop() {
	[[ -z $server ]] || { kill "$server" && wait "$server" || true; } 2>/dev/null
	server=
}
results=
trap 'stop; rm -f "$results"' EXIT

# Microseconds of CPU that a process has used: utime and stime of /proc/PID/stat, behind its name.
cpu_us() {
	sed 's/.*) //' "/proc/$1/stat" | awk -v tick="$(getconf CLK_TCK)" \
		'{ printf "%d\n", ($12 + $13) * 1000000 / tick }'
}

# measure NAME KIND TOTAL ARGUMENTS...: one line "kind name puts/s p50_ms p99_ms cpu_us" to results.
measure() {
	local name=$1 kind=$2 puts=$3 before after output
	shift 3
	before=$(cpu_us "$server")
	output=$("$benchmark" --endpoints "127.0.0.1:$port" "$@" put --key-size=8 --val-size=256 \
		--sequential-keys --total="$puts" --key-space-size=100000 2>/dev/null)
	after=$(cpu_us "$server")
	if grep -q 'Error distribution' <<<"$output"; then
		echo "$name answered with errors:" >&2
		sed -n '/Error distribution/,$p' <<<"$output" >&2
		exit 1
	fi
	awk -v name="$name" -v kind="$kind" -v cpu=$((after - before)) -v puts="$puts" '
		/Requests\/sec:/ { rate = $2 }
		/ 50% in / { p50 = $3 * 1000 }
		/ 99% in / { p99 = $3 * 1000 }
		END {
			if (rate == 0) exit 1
			printf "%s %s %.0f %.3f %.3f %.1f\n", kind, name, rate, p50, p99, cpu / puts
		}' <<<"$output" | tee -a "$results"
}

# round NAME BINARY FLAGS...: a fresh store, many clients, then one alone.
round() {
	local name=$1 binary=$2 dir
	shift 2
	dir=$data/$name
	rm -rf "$dir"
	local client=http://127.0.0.1:$port peer=http://127.0.0.1:$((port + 1))
	env -i "$binary" --data-dir "$dir" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
		--initial-cluster "default=$peer" "$@" 2>"$data/$name.log" &
	server=$!
	for _ in $(seq 600); do
		grep -q 'ready to serve client requests' "$data/$name.log" && break
		kill -0 "$server" 2>/dev/null || { cat "$data/$name.log" >&2; exit 1; }
		sleep 0.05
	done
	measure "$name" many "$total" --clients=1000 --conns=100
	measure "$name" one "$single" --clients=1 --conns=1
	stop
	rm -rf "$dir"
}

mkdir -p "$data"
results=$(mktemp "$data/results.XXXXXX")
echo "# $(date -u +%F), $(nproc) cores, $(uname -sr), many: 1000 clients on 100 connections"
echo "# kind server puts/s p50_ms p99_ms cpu_us_per_put"
for _ in $(seq "$rounds"); do
	# The flags are words to be split.
	# shellcheck disable=SC2086
	round ringbolt "$ringbolt" ${RINGBOLT_FLAGS:-}
	# shellcheck disable=SC2086
	round etcd "$etcd" ${ETCD_FLAGS:-}
done

echo "# means, and ringbolt as a share of etcd"
awk '
	{ key = $1 " " $2; n[key]++; for (i = 3; i <= 6; i++) sum[key, i] += $i }
	END {
		for (k = 1; k <= split("many one", kinds, " "); k++) {
			kind = kinds[k]
			r = kind " ringbolt"; e = kind " etcd"
			if (!n[r] || !n[e]) exit 1
			for (s = 1; s <= split("ringbolt etcd", names, " "); s++) {
				key = kind " " names[s]
				printf "%s", key
				for (i = 3; i <= 6; i++) printf " %.3g", sum[key, i] / n[key]
				print ""
			}
			printf "%s ratio", kind
			for (i = 3; i <= 6; i++) printf " %.2f", (sum[r, i] / n[r]) / (sum[e, i] / n[e])
			print ""
		}
	}' "$results"
