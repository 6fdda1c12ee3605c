package contract

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// release is the etcd release whose contract is kept.
const release, clusterVersion = "3.7.3", "3.7.0"

func TestStatus(t *testing.T) {
	s := start(t)
	s.settle()
	check(t, s, []step{{call: "Put", req: `key:"a" value:"1"`, want: `@2`}})
	got, err := pb.NewMaintenanceClient(s.conn).Status(s.context(), &pb.StatusRequest{})
	must(t, err)
	if h := s.show(got.Header); h != "@2" {
		t.Errorf("header %s", h)
	}
	if got.Version != release || got.StorageVersion != clusterVersion {
		t.Errorf("version %s, storage version %s", got.Version, got.StorageVersion)
	}
	if got.Leader != s.member.ID || got.IsLearner || len(got.Errors) != 0 {
		t.Errorf("leader %x, learner %v, errors %v", got.Leader, got.IsLearner, got.Errors)
	}
	if got.RaftTerm < 2 || got.RaftTerm != got.Header.RaftTerm || got.RaftAppliedIndex == 0 || got.RaftAppliedIndex > got.RaftIndex {
		t.Errorf("term %d, applied %d of %d", got.RaftTerm, got.RaftAppliedIndex, got.RaftIndex)
	}
	if got.DbSize <= 0 || got.DbSizeInUse <= 0 || got.DbSizeInUse > got.DbSize || got.DbSizeQuota != 2<<30 {
		t.Errorf("size %d, in use %d, quota %d", got.DbSize, got.DbSizeInUse, got.DbSizeQuota)
	}
	if d := got.DowngradeInfo; d.GetEnabled() || d.GetTargetVersion() != "" {
		t.Errorf("downgrade %v", d)
	}
}

// TestMembers: ids follow from the peer URLs and the token, URLs come back as
// they were given.
func TestMembers(t *testing.T) {
	s := start(t)
	digest := sha1.Sum([]byte("http://" + s.peer + "etcd-cluster"))
	member := binary.BigEndian.Uint64(digest[:8])
	digest = sha1.Sum(binary.BigEndian.AppendUint64(nil, member))
	cluster := binary.BigEndian.Uint64(digest[:8])
	if s.member.ID != member || s.header.MemberId != member || s.header.ClusterId != cluster {
		t.Errorf("member %x in cluster %x, want %x in %x", s.member.ID, s.header.ClusterId, member, cluster)
	}
	self := fmt.Sprintf("ID=%d name=judged peerURLs=[http://%s] clientURLs=[http://%s]", member, s.peer, s.address)
	check(t, s, []step{
		{call: "Put", req: `key:"a"`, want: `@2`},
		{name: "no revision in the header", call: "MemberList", req: `linearizable:true`, want: "@0 members=[" + self + "]"},
		{call: "MemberList", req: ``, want: "@0 members=[" + self + "]"},
		{name: "add nothing", call: "MemberAdd", req: ``, want: `InvalidArgument: etcdserver: given member URLs are invalid`},
		{name: "add a bad URL", call: "MemberAdd", req: `peerURLs:"127.0.0.1:2"`, want: `InvalidArgument: etcdserver: given member URLs are invalid`},
		{name: "add a URL with a path", call: "MemberAdd", req: `peerURLs:"http://127.0.0.1:2/x"`, want: `InvalidArgument: etcdserver: given member URLs are invalid`},
		{name: "add a known URL", call: "MemberAdd", req: `peerURLs:"http://` + s.peer + `"`, want: `FailedPrecondition: etcdserver: Peer URLs already exists`},
		{name: "remove an unknown one", call: "MemberRemove", req: `ID:1`, want: `NotFound: etcdserver: member not found`},
		{name: "update an unknown one", call: "MemberUpdate", req: `ID:1 peerURLs:"http://127.0.0.1:2"`, want: `NotFound: etcdserver: member not found`},
		{name: "promote an unknown one", call: "MemberPromote", req: `ID:1`, want: `NotFound: etcdserver: member not found`},
		{name: "promote a voter", call: "MemberPromote", req: fmt.Sprintf(`ID:%d`, member), want: `FailedPrecondition: etcdserver: can only promote a learner member`},
		{name: "move the leader to nobody", call: "MoveLeader", req: `targetID:1`, want: `FailedPrecondition: etcdserver: bad leader transferee`},
		{name: "move the leader where it is: an answer without header", call: "MoveLeader", req: fmt.Sprintf(`targetID:%d`, member), want: ``},
		{name: "update", call: "MemberUpdate", req: fmt.Sprintf(`ID:%d peerURLs:"http://localhost:1"`, member),
			want: "@0 members=[" + strings.Replace(self, s.peer, "localhost:1", 1) + "]"},
		{name: "add a learner", call: "MemberAdd", req: `peerURLs:"http://127.0.0.1:3" isLearner:true`,
			want: "@0 member=ID=* peerURLs=[http://127.0.0.1:3] isLearner members=[ID=* * * * * * *"},
		{name: "add a second learner", call: "MemberAdd", req: `peerURLs:"http://127.0.0.1:4" isLearner:true`, want: `FailedPrecondition: etcdserver: too many learner members in cluster`},
	})
}

func TestAlarm(t *testing.T) {
	s := start(t)
	const noSpace = `ResourceExhausted: etcdserver: mvcc: database space exceeded`
	const corrupt = `DataLoss: etcdserver: corrupt cluster`
	check(t, s, []step{
		{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@2 ID=7 TTL=5000`},
		{call: "Put", req: `key:"l" lease:7`, want: `@3`},
		{name: "none", call: "Alarm", req: ``, want: `@3`},
		{name: "activate no kind", call: "Alarm", req: `action:ACTIVATE memberID:5`, want: `@3`},
		{name: "deactivate what is not", call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:NOSPACE`, want: `@3`},
		{name: "activate", call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:NOSPACE`, want: `@3 alarms=[memberID=5 alarm=NOSPACE]`},
		{name: "twice", call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:NOSPACE`, want: `@3 alarms=[memberID=5 alarm=NOSPACE]`},
		{name: "get all", call: "Alarm", req: ``, want: `@3 alarms=[memberID=5 alarm=NOSPACE]`},
		{name: "get one kind", call: "Alarm", req: `alarm:NOSPACE`, want: `@3 alarms=[memberID=5 alarm=NOSPACE]`},
		{name: "get the other kind", call: "Alarm", req: `alarm:CORRUPT`, want: `@3`},

		{name: "no space: put", call: "Put", req: `key:"a" value:"2"`, want: noSpace},
		{name: "no space: a grant", call: "LeaseGrant", req: `ID:8 TTL:50`, want: noSpace},
		{name: "no space: txn with a put", call: "Txn", req: `success{request_put{key:"a"}}`, want: noSpace},
		{name: "no space: txn with a put in the branch not taken", call: "Txn", req: `failure{request_put{key:"a"}}`, want: noSpace},
		{name: "no space: txn with a nested put", call: "Txn", req: `success{request_txn{success{request_put{key:"a"}}}}`, want: noSpace},
		{name: "a bad put is refused as ever", call: "Put", req: ``, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "range", call: "Range", req: `key:"a"`, want: `@3 kvs=[a=1/2.2.1] count=1`},
		{name: "txn with ranges", call: "Txn", req: `success{request_range{key:"a"}}`, want: `@3 succeeded responses=[range(~3 kvs=[a=1/2.2.1] count=1)]`},
		{name: "txn with a deletion", call: "Txn", req: `success{request_delete_range{key:"a"}}`, want: `@4 succeeded responses=[delete_range(~4 deleted=1)]`},
		{name: "delete", call: "DeleteRange", req: `key:"b"`, want: `@4`},
		{name: "compact", call: "Compact", req: `revision:4`, want: `@4`},
		{name: "keep alive", call: "LeaseKeepAlive", req: `ID:7`, want: `@4 ID=7 TTL=5000`},
		{name: "revoke", call: "LeaseRevoke", req: `ID:7`, want: `@5`},

		{name: "deactivate another member's", call: "Alarm", req: `action:DEACTIVATE memberID:6 alarm:NOSPACE`, want: `@5`},
		{name: "deactivate", call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:NOSPACE`, want: `@5 alarms=[memberID=5 alarm=NOSPACE]`},
		{call: "Alarm", req: ``, want: `@5`},
		{name: "space again", call: "Put", req: `key:"a" value:"2"`, want: `@6`},

		{name: "corrupt", call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:CORRUPT`, want: `@6 alarms=[memberID=5 alarm=CORRUPT]`},
		{name: "corrupt: put", call: "Put", req: `key:"a"`, want: corrupt},
		{name: "corrupt: delete", call: "DeleteRange", req: `key:"a"`, want: corrupt},
		{name: "corrupt: txn", call: "Txn", req: `success{request_delete_range{key:"x"}}`, want: corrupt},
		{name: "corrupt: compact", call: "Compact", req: `revision:6`, want: corrupt},
		{name: "corrupt: grant", call: "LeaseGrant", req: `ID:9 TTL:50`, want: corrupt},
		{name: "corrupt: revoke", call: "LeaseRevoke", req: `ID:9`, want: corrupt},
		{name: "corrupt: range", call: "Range", req: `key:"a"`, want: `@6 kvs=[a=2/6.6.1] count=1`},
		{name: "corrupt: txn with ranges", call: "Txn", req: `success{request_range{key:"a"}}`, want: `@6 succeeded responses=[range(~6 kvs=[a=2/6.6.1] count=1)]`},
		{name: "both kinds", call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:NOSPACE`, want: `@6 alarms=[memberID=5 alarm=NOSPACE]`},
		{call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:CORRUPT`, want: `@6 alarms=[memberID=5 alarm=CORRUPT]`},
		{call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:NOSPACE`, want: `@6 alarms=[memberID=5 alarm=NOSPACE]`},
		{call: "Put", req: `key:"a"`, want: `@7`},
	})
}

// TestAlarmShown: Status and the HTTP probes tell of alarms.
func TestAlarmShown(t *testing.T) {
	s := start(t)
	errors := func() string {
		got, err := pb.NewMaintenanceClient(s.conn).Status(s.context(), &pb.StatusRequest{})
		must(t, err)
		return strings.Join(strings.Fields(strings.Join(got.Errors, ",")), " ")
	}
	check(t, s, []step{{call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:NOSPACE`, want: `@1 alarms=[memberID=5 alarm=NOSPACE]`}})
	if got := errors(); got != "memberID:5 alarm:NOSPACE" {
		t.Errorf("status errors %q", got)
	}
	probe(t, s, []request{
		{path: "/health", status: 503, body: `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{path: "/health?exclude=NOSPACE", status: 200, body: `{"health":"true","reason":""}`},
		{path: "/health?exclude=CORRUPT", status: 503, body: `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{path: "/readyz", status: 200, body: "ok\n"},
		{path: "/livez", status: 200, body: "ok\n"},
	})
	check(t, s, []step{
		{call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:NOSPACE`, want: `@1 alarms=[memberID=5 alarm=NOSPACE]`},
		{call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:CORRUPT`, want: `@1 alarms=[memberID=5 alarm=CORRUPT]`},
	})
	if got := errors(); got != "memberID:5 alarm:CORRUPT" {
		t.Errorf("status errors %q", got)
	}
	probe(t, s, []request{
		{path: "/health", status: 503, body: `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{path: "/health?exclude=NOSPACE&exclude=CORRUPT", status: 200, body: `{"health":"true","reason":""}`},
		{path: "/readyz/data_corruption", status: 503, body: "[-]data_corruption failed: alarm activated: CORRUPT\n\n"},
		{path: "/readyz?exclude=data_corruption", status: 200, body: "ok\n"},
		{path: "/readyz/non_learner", status: 200, body: "ok\n"},
		{path: "/livez", status: 200, body: "ok\n"},
	})
}

// TestQuota: a full store refuses writes until space was made and the alarm
// was lifted by hand.
func TestQuota(t *testing.T) {
	s := start(t, "--quota-backend-bytes=50000000")
	kv, maintenance := pb.NewKVClient(s.conn), pb.NewMaintenanceClient(s.conn)
	var err error
	var revision int64
	for i := 0; err == nil && i < 80; i++ {
		var put *pb.PutResponse
		if put, err = kv.Put(s.context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1_000_000)}); err == nil {
			revision = put.Header.Revision
		}
	}
	const full = `ResourceExhausted: etcdserver: mvcc: database space exceeded`
	if err == nil || problem(err) != full {
		t.Fatalf("80 MB went into a store of 50 MB: %v", err)
	}
	if revision < 20 {
		t.Errorf("only %d MB went into a store of 50 MB", revision-1)
	}
	// The alarm is proposed by the server itself, a moment later.
	alarm := fmt.Sprintf("alarms=[memberID=%d alarm=NOSPACE]", s.member.ID)
	deadline := time.Now().Add(5 * time.Second)
	for !strings.HasSuffix(s.call("Alarm", ""), alarm) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	check(t, s, []step{
		{call: "Alarm", req: ``, want: "@* " + alarm},
		{name: "put", call: "Put", req: `key:"a" value:"1"`, want: full},
		{name: "grant", call: "LeaseGrant", req: `TTL:50`, want: full},
		{name: "txn", call: "Txn", req: `success{request_put{key:"a"}}`, want: full},
		{name: "delete", call: "DeleteRange", req: `key:"k"`, want: `@* deleted=1`},
	})
	now, err := kv.Range(s.context(), &pb.RangeRequest{Key: []byte("k")})
	must(t, err)
	_, err = kv.Compact(s.context(), &pb.CompactionRequest{Revision: now.Header.Revision, Physical: true})
	must(t, err)
	_, err = maintenance.Defragment(s.context(), &pb.DefragmentRequest{})
	must(t, err)
	status, err := maintenance.Status(s.context(), &pb.StatusRequest{})
	must(t, err)
	if status.DbSize > 10_000_000 || status.DbSizeQuota != 50_000_000 {
		t.Errorf("after defragmentation: size %d, quota %d", status.DbSize, status.DbSizeQuota)
	}
	check(t, s, []step{
		{name: "the alarm stays", call: "Put", req: `key:"a" value:"1"`, want: full},
		{name: "until it is lifted", call: "Alarm", req: fmt.Sprintf(`action:DEACTIVATE memberID:%d alarm:NOSPACE`, s.member.ID), want: "@* " + alarm},
		{call: "Put", req: `key:"a" value:"1"`, want: fmt.Sprintf("@%d", now.Header.Revision+1)},
	})
}

func TestMaintenance(t *testing.T) {
	s := start(t)
	s.settle()
	check(t, s, []step{
		{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{name: "an answer without header", call: "Defragment", req: ``, want: ``},
		{call: "Range", req: `key:"a"`, want: `@2 kvs=[a=1/2.2.1] count=1`},
		{call: "Hash", req: ``, want: `@2 hash=*`},
		{call: "Downgrade", req: `action:VALIDATE version:"3.6"`, want: `@2 version=3.7`},
		{call: "Downgrade", req: `action:VALIDATE version:"3.6.5"`, want: `@2 version=3.7`},
		{call: "Downgrade", req: `action:VALIDATE version:"3.5"`, want: `InvalidArgument: etcdserver: invalid downgrade target version`},
		{call: "Downgrade", req: `action:VALIDATE version:"3.7"`, want: `InvalidArgument: etcdserver: invalid downgrade target version`},
		{call: "Downgrade", req: `action:VALIDATE version:"x"`, want: `InvalidArgument: etcdserver: wrong downgrade target version format`},
		{call: "Downgrade", req: `action:VALIDATE`, want: `InvalidArgument: etcdserver: wrong downgrade target version format`},
		{call: "Downgrade", req: `action:CANCEL`, want: `@2 version=3.7`},
		{call: "Downgrade", req: `action:9 version:"3.6"`, want: `Unknown: etcdserver: unknown method`},
		{call: "AuthStatus", req: ``, want: `@2 authRevision=1`},
		{call: "Authenticate", req: `name:"u" password:"p"`, want: `FailedPrecondition: etcdserver: authentication is not enabled`},
		{call: "AuthEnable", req: ``, want: `FailedPrecondition: etcdserver: root user does not exist`},
	})
}

// TestSnapshot: the stream is a file, of which the last message is the digest.
func TestSnapshot(t *testing.T) {
	needs(t, "snapshots")
	s := start(t)
	s.settle()
	check(t, s, []step{{call: "Put", req: `key:"a" value:"1"`, want: `@2`}})
	stream, err := pb.NewMaintenanceClient(s.conn).Snapshot(s.context(), &pb.SnapshotRequest{})
	must(t, err)
	var file, last []byte
	remaining := ^uint64(0)
	for {
		chunk, err := stream.Recv()
		if err == io.EOF {
			break
		}
		must(t, err)
		if chunk.RemainingBytes > remaining {
			t.Errorf("%d bytes remain after %d", chunk.RemainingBytes, remaining)
		}
		if len(chunk.Blob) > 32<<10 {
			t.Errorf("a chunk of %d bytes", len(chunk.Blob))
		}
		if chunk.Version != clusterVersion {
			t.Errorf("version %q", chunk.Version)
		}
		remaining, file, last = chunk.RemainingBytes, append(file, chunk.Blob...), chunk.Blob
	}
	if remaining != 0 || len(file)%512 != 32 {
		t.Fatalf("%d bytes, %d remain", len(file), remaining)
	}
	if digest := sha256.Sum256(file[:len(file)-32]); !bytes.Equal(digest[:], last) {
		t.Error("the last message is not the digest of what came before")
	}
	if magic := binary.LittleEndian.Uint32(file[16:]); magic != 0xED0CDAED {
		t.Errorf("the file is no bolt file: magic %x", magic)
	}
}

func TestHealthService(t *testing.T) {
	s := start(t)
	health := grpc_health_v1.NewHealthClient(s.conn)
	got, err := health.Check(s.context(), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %s", got.Status)
	}
	_, err = health.Check(s.context(), &grpc_health_v1.HealthCheckRequest{Service: "etcdserverpb.KV"})
	if got := problem(err); got != "NotFound: unknown service" {
		t.Errorf("health of a service by name: %s", got)
	}
	ctx, cancel := context.WithCancel(s.context())
	defer cancel()
	stream, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if got, err = stream.Recv(); err != nil || got.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health watch: %v %v", got, err)
	}
}

func TestUnimplemented(t *testing.T) {
	s := start(t)
	for _, method := range []string{
		"/etcdserverpb.KV/Nothing", "/etcdserverpb.Nothing/Range", "/nothing",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	} {
		err := s.conn.Invoke(s.context(), method, &pb.RangeRequest{}, &pb.RangeResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
}
