package contract

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
)

// request is one row of a table of HTTP requests on the client port.
type request struct {
	method string // GET if empty
	path   string
	status int
	body   string
	header string // "Name: value" that must be there
	lines  bool   // the lines of the body may come in any order
}

func probe(t *testing.T, s *server, rows []request) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, row := range rows {
		if row.method == "" {
			row.method = http.MethodGet
		}
		req, err := http.NewRequestWithContext(s.context(), row.method, "http://"+s.address+row.path, nil)
		must(t, err)
		answer, err := client.Do(req)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		must(t, answer.Body.Close())
		got := string(body)
		if row.lines {
			got, row.body = sorted(got), sorted(row.body)
		}
		if answer.StatusCode != row.status || got != row.body {
			t.Errorf("%s %s: %d %q, want %d %q", row.method, row.path, answer.StatusCode, got, row.status, row.body)
		}
		if name, value, _ := strings.Cut(row.header, ": "); value != answer.Header.Get(name) {
			t.Errorf("%s %s: header %s is %q, want %q", row.method, row.path, name, answer.Header.Get(name), value)
		}
	}
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestHTTP(t *testing.T) {
	s := start(t)
	s.settle()
	const (
		healthy = `{"health":"true","reason":""}`
		live    = "[+]serializable_read ok\n"
		ready   = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n"
		refused = "Method Not Allowed\n"
		missing = "404 page not found\n"
		text    = "Content-Type: text/plain; charset=utf-8"
	)
	probe(t, s, []request{
		{path: "/health", status: 200, body: healthy},
		{path: "/health?serializable=true", status: 200, body: healthy},
		{path: "/health?serializable=nonsense", status: 200, body: healthy},
		{path: "/health?exclude=NOSPACE&exclude=CORRUPT", status: 200, body: healthy},
		{method: "POST", path: "/health", status: 405, body: refused, header: "Allow: GET"},
		{method: "HEAD", path: "/health", status: 405, header: "Allow: GET"},

		{path: "/livez", status: 200, body: "ok\n", header: text},
		{path: "/livez?verbose", status: 200, body: live + "ok\n"},
		{path: "/livez?verbose=false", status: 200, body: live + "ok\n"},
		{path: "/livez?exclude=serializable_read&verbose", status: 200, body: "ok\n"},
		{path: "/livez?exclude=nothing", status: 200, body: "ok\n"},
		{path: "/livez/serializable_read", status: 200, body: "ok\n"},
		{path: "/livez/serializable_read?verbose", status: 200, body: live + "ok\n"},
		{path: "/livez/linearizable_read", status: 404, body: missing},
		{method: "PUT", path: "/livez", status: 405, body: refused, header: "Allow: GET"},

		{path: "/readyz", status: 200, body: "ok\n", header: "X-Content-Type-Options: nosniff"},
		{path: "/readyz?verbose", status: 200, body: ready + "ok\n", lines: true},
		{path: "/readyz?verbose&exclude=non_learner&exclude=data_corruption&exclude=nothing", status: 200,
			body: "[+]serializable_read ok\n[+]linearizable_read ok\nok\n", lines: true},
		{path: "/readyz/data_corruption?verbose", status: 200, body: "[+]data_corruption ok\nok\n"},
		{path: "/readyz/serializable_read", status: 200, body: "ok\n"},
		{path: "/readyz/linearizable_read", status: 200, body: "ok\n"},
		{path: "/readyz/non_learner", status: 200, body: "ok\n"},
		{path: "/readyz/nothing", status: 404, body: missing},
		{method: "DELETE", path: "/readyz", status: 405, body: refused, header: "Allow: GET"},

		{path: "/version", status: 200, body: `{"etcdserver":"` + release + `","etcdcluster":"` + clusterVersion + `","storage":"` + clusterVersion + `"}`,
			header: "Content-Type: application/json"},
		{method: "POST", path: "/version", status: 405, body: refused, header: "Allow: GET"},

		{path: "/", status: 404, body: missing},
		{path: "/v2/keys", status: 404, body: missing},
		{path: "/health/x", status: 404, body: missing},
		{path: "/members", status: 404, body: missing},
		{method: "OPTIONS", path: "/health", status: 200},
		{method: "OPTIONS", path: "/nothing", status: 200},
	})
}

// everyMetric are the names that a real etcd has after TestMetrics' calls, those
// of Go's runtime but for two.
const everyMetric = `
	etcd_cluster_version etcd_debugging_auth_revision etcd_debugging_disk_backend_commit_rebalance_duration_seconds
	etcd_debugging_disk_backend_commit_spill_duration_seconds etcd_debugging_disk_backend_commit_write_duration_seconds
	etcd_debugging_lease_granted_total etcd_debugging_lease_renewed_total etcd_debugging_lease_revoked_total
	etcd_debugging_lease_ttl_total etcd_debugging_mvcc_compact_revision etcd_debugging_mvcc_current_revision
	etcd_debugging_mvcc_db_compaction_keys_total etcd_debugging_mvcc_db_compaction_last
	etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds etcd_debugging_mvcc_db_compaction_total_duration_milliseconds
	etcd_debugging_mvcc_events_total etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds etcd_debugging_mvcc_keys_total
	etcd_debugging_mvcc_pending_events_total etcd_debugging_mvcc_slow_watcher_total etcd_debugging_mvcc_total_put_size_in_bytes
	etcd_debugging_mvcc_watch_stream_total etcd_debugging_mvcc_watcher_total etcd_debugging_server_lease_expired_total
	etcd_debugging_server_watch_send_loop_control_stream_duration_seconds
	etcd_debugging_server_watch_send_loop_progress_duration_seconds
	etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds
	etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds etcd_debugging_snap_save_marshalling_duration_seconds
	etcd_debugging_snap_save_total_duration_seconds etcd_debugging_store_expires_total etcd_debugging_store_watch_requests_total
	etcd_debugging_store_watchers etcd_disk_backend_commit_duration_seconds etcd_disk_backend_defrag_duration_seconds
	etcd_disk_backend_snapshot_duration_seconds etcd_disk_defrag_inflight etcd_disk_wal_fsync_duration_seconds
	etcd_disk_wal_write_bytes_total etcd_disk_wal_write_duration_seconds etcd_grpc_proxy_cache_hits_total
	etcd_grpc_proxy_cache_keys_total etcd_grpc_proxy_cache_misses_total etcd_grpc_proxy_events_coalescing_total
	etcd_grpc_proxy_watchers_coalescing_total etcd_mvcc_db_open_read_transactions etcd_mvcc_db_total_size_in_bytes
	etcd_mvcc_db_total_size_in_use_in_bytes etcd_mvcc_delete_total etcd_mvcc_hash_duration_seconds
	etcd_mvcc_hash_rev_duration_seconds etcd_mvcc_put_total etcd_mvcc_range_total etcd_mvcc_txn_total
	etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total etcd_network_known_peers
	etcd_server_apply_duration_seconds etcd_server_client_requests_total etcd_server_feature_enabled etcd_server_go_version
	etcd_server_has_leader etcd_server_health_failures etcd_server_health_success etcd_server_heartbeat_send_failures_total
	etcd_server_id etcd_server_is_leader etcd_server_is_learner etcd_server_leader_changes_seen_total
	etcd_server_learner_promote_successes etcd_server_proposals_applied_total etcd_server_proposals_committed_total
	etcd_server_proposals_failed_total etcd_server_proposals_pending etcd_server_quota_backend_bytes
	etcd_server_range_duration_seconds etcd_server_read_indexes_failed_total etcd_server_request_duration_seconds
	etcd_server_slow_apply_total etcd_server_slow_read_indexes_total etcd_server_snapshot_apply_in_progress_total etcd_server_version
	etcd_snap_db_fsync_duration_seconds etcd_snap_db_save_total_duration_seconds etcd_snap_fsync_duration_seconds go_goroutines
	go_info grpc_server_handled_total grpc_server_msg_received_total grpc_server_msg_sent_total grpc_server_started_total os_fd_limit
	os_fd_used process_cpu_seconds_total process_max_fds process_network_receive_bytes_total process_network_transmit_bytes_total
	process_open_fds process_resident_memory_bytes process_start_time_seconds process_virtual_memory_bytes
	process_virtual_memory_max_bytes promhttp_metric_handler_requests_in_flight promhttp_metric_handler_requests_total`

// TestMetrics: the names that alerts, dashboards and tests ask for, and
// figures that follow from what was done.
func TestMetrics(t *testing.T) {
	s := start(t)
	s.settle()
	check(t, s, []step{
		{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{call: "Put", req: `key:"b" value:"1"`, want: `@3`},
		{call: "Txn", req: `success{request_put{key:"c" value:"1"}} success{request_delete_range{key:"a" range_end:"c"}}`,
			want: `@4 succeeded responses=[put(~4); delete_range(~4 deleted=2)]`},
		{call: "DeleteRange", req: `key:"none"`, want: `@4`},
		{call: "Range", req: `key:"a" revision:9`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{call: "Range", req: `key:"a"`, want: `@4`},
		{call: "LeaseGrant", req: `ID:7 TTL:60`, want: `@4 ID=7 TTL=60`},
		{call: "Compact", req: `revision:4 physical:true`, want: `@4`},
		{call: "HashKV", want: `@4 hash=* compact_revision=4 hash_revision=4`},
		{call: "Hash", want: `@4 hash=*`},
	})
	// A client that says which release it was built with.
	named := metadata.AppendToOutgoingContext(s.context(), "client-api-version", "3.0.1")
	_, err := pb.NewKVClient(s.conn).Range(named, &pb.RangeRequest{Key: []byte("a")})
	must(t, err)
	stream, err := pb.NewWatchClient(s.conn).Watch(named)
	must(t, err)
	must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}}))
	_, err = stream.Recv()
	must(t, err)
	s.scrape()
	text := s.scrape()

	unbuilt := map[string]bool{}
	for _, group := range unbuiltMetrics {
		for _, name := range strings.Fields(group.names) {
			unbuilt[name] = true
		}
	}
	for _, name := range strings.Fields(everyMetric) {
		there := regexp.MustCompile(`(?m)^` + name + `(_bucket)?[{ ]`).MatchString(text)
		switch {
		case judge == "ringbolt" && unbuilt[name] && there:
			t.Errorf("%s is built: take it off the list", name)
		case !there && !(judge == "ringbolt" && unbuilt[name]):
			t.Errorf("no metric %s", name)
		}
		delete(unbuilt, name)
	}
	for name := range unbuilt {
		t.Errorf("%s is on the list of what is not built, and not looked for", name)
	}

	self := strconv.FormatUint(s.member.ID, 16)
	for _, line := range []string{
		`etcd_server_has_leader 1`,
		`etcd_server_is_leader 1`,
		`etcd_server_is_learner 0`,
		`etcd_server_version{server_version="` + release + `"} 1`,
		`etcd_cluster_version{cluster_version="3.7"} 1`,
		`etcd_server_quota_backend_bytes 2147483648`,
		`etcd_mvcc_put_total 3`,
		`etcd_mvcc_delete_total 2`,
		`etcd_debugging_mvcc_keys_total 1`,
		`etcd_debugging_mvcc_current_revision 4`,
		`etcd_debugging_mvcc_compact_revision 4`,
		`etcd_debugging_mvcc_total_put_size_in_bytes 6`,
		`etcd_debugging_mvcc_db_compaction_keys_total 2`,
		`etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count 1`,
		`etcd_mvcc_hash_duration_seconds_count 1`,
		`etcd_mvcc_hash_rev_duration_seconds_count 1`,
		`etcd_server_slow_apply_total 0`,
		`etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"} 2`,
		`etcd_server_apply_duration_seconds_count{op="Txn",success="true",version="v3"} 1`,
		`etcd_server_apply_duration_seconds_count{op="Compaction",success="true",version="v3"} 1`,
		`etcd_server_apply_duration_seconds_count{op="LeaseGrant",success="true",version="v3"} 1`,
		`etcd_server_range_duration_seconds_count{success="true"} 2`,
		`etcd_server_range_duration_seconds_count{success="false"} 1`,
		`etcd_server_client_requests_total{client_api_version="3.0.1",type="unary"} 1`,
		`etcd_server_client_requests_total{client_api_version="3.0.1",type="stream"} 1`,
		`etcd_network_known_peers{Local="` + self + `",Remote="` + self + `"} 1`,
		`promhttp_metric_handler_requests_total{code="200"} 1`,
		`promhttp_metric_handler_requests_total{code="500"} 0`,
		`promhttp_metric_handler_requests_in_flight 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2`,
		`grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_started_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1`,
		`grpc_server_started_total{grpc_method="RangeStream",grpc_service="etcdserverpb.KV",grpc_type="server_stream"} 0`,
	} {
		name, want, _ := strings.Cut(line, " ")
		found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindStringSubmatch(text)
		if found == nil {
			t.Errorf("no line for %s", name)
			continue
		}
		got, err := strconv.ParseFloat(found[1], 64)
		must(t, err)
		if number, err := strconv.ParseFloat(want, 64); err != nil || got != number {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}

	last := regexp.MustCompile(`(?m)^etcd_debugging_mvcc_db_compaction_last (.*)$`).FindStringSubmatch(text)
	if last == nil {
		t.Fatal("no time of the last compaction")
	}
	seconds, err := strconv.ParseFloat(last[1], 64)
	must(t, err)
	if ago := time.Since(time.Unix(int64(seconds), 0)); ago < -2*time.Second || ago > time.Minute {
		t.Errorf("the last compaction was %v ago", ago)
	}

	// Bounds double from the first on. Their text is part of the series' name.
	for name, bounds := range map[string][]string{
		"etcd_server_apply_duration_seconds":                            {"0.0001", "52.4288"},
		"etcd_server_range_duration_seconds":                            {"0.0001", "52.4288"},
		"etcd_disk_wal_fsync_duration_seconds":                          {"0.001", "8.192"},
		"etcd_disk_wal_write_duration_seconds":                          {"0.001", "8.192"},
		"etcd_mvcc_hash_duration_seconds":                               {"0.01", "163.84"},
		"etcd_mvcc_hash_rev_duration_seconds":                           {"0.01", "163.84"},
		"etcd_debugging_lease_ttl_total":                                {"1", "8.388608e+06"},
		"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds": {"100", "819200"},
		"etcd_disk_backend_commit_duration_seconds":                     {"0.001", "8.192"},
		"etcd_disk_backend_defrag_duration_seconds":                     {"0.1", "409.6"},
		"etcd_disk_backend_snapshot_duration_seconds":                   {"0.01", "655.36"},
		"etcd_snap_db_save_total_duration_seconds":                      {"0.1", "51.2"},
		"etcd_snap_db_fsync_duration_seconds":                           {"0.001", "8.192"},
		"etcd_snap_fsync_duration_seconds":                              {"0.001", "8.192"},
		"etcd_debugging_snap_save_total_duration_seconds":               {"0.001", "8.192"},
	} {
		rows := regexp.MustCompile(`(?m)^`+name+`_bucket\{.*le="([^"]*)"`).FindAllStringSubmatch(text, -1)
		if len(rows) < 3 {
			t.Errorf("%s has %d buckets", name, len(rows))
			continue
		}
		if got := []string{rows[0][1], rows[len(rows)-2][1]}; !slices.Equal(got, bounds) {
			t.Errorf("%s is bounded by %q, want %q", name, got, bounds)
		}
	}
}

// scrape gives the text of /metrics.
func (s *server) scrape() string {
	s.t.Helper()
	answer, err := http.Get("http://" + s.address + "/metrics")
	must(s.t, err)
	body, err := io.ReadAll(answer.Body)
	must(s.t, err)
	must(s.t, answer.Body.Close())
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		s.t.Errorf("status %d, type %s", answer.StatusCode, kind)
	}
	return string(body)
}

// TestMetricsPort: a listener of its own serves metrics and probes only.
func TestMetricsPort(t *testing.T) {
	address := freeAddress(t)
	s := start(t, "--listen-metrics-urls=http://"+address)
	other := *s
	other.address = address
	probe(t, &other, []request{
		{path: "/health", status: 200, body: `{"health":"true","reason":""}`},
		{path: "/livez", status: 200, body: "ok\n"},
		{path: "/readyz", status: 200, body: "ok\n"},
		{path: "/version", status: 404, body: "404 page not found\n"},
		{path: "/v3/kv/range", status: 404, body: "404 page not found\n"},
	})
	answer, err := http.Get("http://" + address + "/metrics")
	must(t, err)
	must(t, answer.Body.Close())
	if answer.StatusCode != 200 {
		t.Errorf("metrics: %s", answer.Status)
	}
}

// TestGateway: JSON over HTTP, as scripts with curl use it.
func TestGateway(t *testing.T) {
	needs(t, "the JSON gateway")
	s := start(t)
	for _, row := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`, 200, `{}`},
		{"/v3/kv/put", `{"key":"YQ==","value":"Mg==","prev_kv":true}`, 200, `{"prev_kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}`},
		{"/v3/kv/range", `{"key":"YQ=="}`, 200, `{"kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"3","version":"2","value":"Mg=="}],"count":"1"}`},
		{"/v3/kv/range", `{"key":"YQ==","revision":9}`, 400, `{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}`},
		{"/v3/kv/range", `{"key":"YQ==","sort_order":"DESCEND","limit":"1"}`, 200, `{"kvs":[{"key":"YQ==","create_revision":"2","mod_revision":"3","version":"2","value":"Mg=="}],"count":"1"}`},
		{"/v3/kv/range", `{}`, 400, `{"code":3,"message":"etcdserver: key is not provided"}`},
		{"/v3/kv/deleterange", `{"key":"YQ=="}`, 200, `{"deleted":"1"}`},
		{"/v3/kv/txn", `{"success":[{"request_put":{"key":"Yg=="}}]}`, 200, `{"succeeded":true,"responses":[{"response_put":{"header":{"revision":"5"}}}]}`},
		{"/v3/kv/compaction", `{"revision":"5"}`, 200, `{}`},
		{"/v3/lease/grant", `{"ID":"7","TTL":"50"}`, 200, `{"ID":"7","TTL":"50"}`},
		{"/v3/lease/revoke", `{"ID":"8"}`, 404, `{"code":5,"message":"etcdserver: requested lease not found"}`},
		{"/v3/maintenance/alarm", `{}`, 200, `{}`},
	} {
		answer, err := http.Post("http://"+s.address+row.path, "application/json", strings.NewReader(row.body))
		must(t, err)
		var got map[string]any
		must(t, json.NewDecoder(answer.Body).Decode(&got))
		must(t, answer.Body.Close())
		delete(got, "header")
		var want map[string]any
		must(t, json.Unmarshal([]byte(row.want), &want))
		gotText, err := json.Marshal(got)
		must(t, err)
		wantText, err := json.Marshal(want)
		must(t, err)
		if answer.StatusCode != row.status || string(gotText) != string(wantText) {
			t.Errorf("%s %s\n got %d %s\nwant %d %s", row.path, row.body, answer.StatusCode, gotText, row.status, wantText)
		}
	}
}
