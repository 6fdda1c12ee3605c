package contract

import "testing"

// TestHashKV: the figures are those of a real etcd 3.7.3 over the same history.
func TestHashKV(t *testing.T) {
	const (
		future    = `OutOfRange: etcdserver: mvcc: required revision is a future revision`
		compacted = `OutOfRange: etcdserver: mvcc: required revision has been compacted`
	)
	histories := []struct {
		name  string
		steps []step
	}{
		{"plain", []step{
			{name: "an empty store", call: "HashKV", req: ``, want: `@1 hash=1084519789 compact_revision=-1 hash_revision=1`},
			{call: "HashKV", req: `revision:1`, want: `@1 hash=1084519789 compact_revision=-1 hash_revision=1`},
			{call: "HashKV", req: `revision:2`, want: future},
			{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
			{call: "HashKV", req: ``, want: `@2 hash=2587454935 compact_revision=-1 hash_revision=2`},
			{name: "of the revision before any write", call: "HashKV", req: `revision:1`, want: `@2 hash=1084519789 compact_revision=-1 hash_revision=1`},
			{call: "Put", req: `key:"a" value:"2"`, want: `@3`},
			{call: "Put", req: `key:"b"`, want: `@4`},
			{call: "Put", req: `key:"\000\377" value:"\377\000\200"`, want: `@5`},
			{name: "all", call: "HashKV", req: ``, want: `@5 hash=2134386914 compact_revision=-1 hash_revision=5`},
			{name: "as of 2 the hash is what it was", call: "HashKV", req: `revision:2`, want: `@5 hash=2587454935 compact_revision=-1 hash_revision=2`},
			{call: "HashKV", req: `revision:3`, want: `@5 hash=535221974 compact_revision=-1 hash_revision=3`},
			{call: "HashKV", req: `revision:5`, want: `@5 hash=2134386914 compact_revision=-1 hash_revision=5`},
			{name: "a negative revision", call: "HashKV", req: `revision:-1`, want: `@5 hash=1084519789 compact_revision=-1 hash_revision=-1`},
			{call: "HashKV", req: `revision:6`, want: future},
		}},
		{"deletions", []step{
			{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
			{call: "Put", req: `key:"b" value:"1"`, want: `@3`},
			{call: "Put", req: `key:"c" value:"1"`, want: `@4`},
			{call: "DeleteRange", req: `key:"b"`, want: `@5 deleted=1`},
			{name: "with a tombstone", call: "HashKV", req: ``, want: `@5 hash=140039863 compact_revision=-1 hash_revision=5`},
			{call: "DeleteRange", req: `key:"a" range_end:"z"`, want: `@6 deleted=2`},
			{name: "with two tombstones of one revision", call: "HashKV", req: ``, want: `@6 hash=1270562581 compact_revision=-1 hash_revision=6`},
			{call: "Put", req: `key:"a" value:"2"`, want: `@7`},
			{name: "a new life", call: "HashKV", req: ``, want: `@7 hash=420230603 compact_revision=-1 hash_revision=7`},
			{call: "HashKV", req: `revision:5`, want: `@7 hash=140039863 compact_revision=-1 hash_revision=5`},
			{call: "HashKV", req: `revision:4`, want: `@7 hash=3870129361 compact_revision=-1 hash_revision=4`},
		}},
		{"leases and transactions", []step{
			{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@1 ID=7 TTL=5000`},
			{call: "LeaseGrant", req: `ID:9223372036854775807 TTL:5000`, want: `@1 ID=9223372036854775807 TTL=5000`},
			{call: "Put", req: `key:"a" value:"1" lease:7`, want: `@2`},
			{call: "Put", req: `key:"b" value:"1" lease:9223372036854775807`, want: `@3`},
			{name: "leases count", call: "HashKV", req: ``, want: `@3 hash=1592190796 compact_revision=-1 hash_revision=3`},
			{call: "Txn", req: `success{request_put{key:"c" value:"1"}} success{request_txn{success{request_put{key:"d" value:"1" lease:7}} success{request_delete_range{key:"b"}}}} success{request_put{key:"e"}}`,
				want: `@4 succeeded responses=[put(~4); txn(~ succeeded responses=[put(~4); delete_range(~4 deleted=1)]); put(~4)]`},
			{name: "sub-revisions in the order of the changes", call: "HashKV", req: ``, want: `@4 hash=2425873645 compact_revision=-1 hash_revision=4`},
			{call: "Txn", req: `success{request_txn{success{request_put{key:"c" value:"2"}}}} success{request_txn{success{request_delete_range{key:"c"}}}}`,
				want: `@5 succeeded responses=[txn(~ succeeded responses=[put(~5)]); txn(~ succeeded responses=[delete_range(~5 deleted=1)])]`},
			{name: "put and deletion of one key in one revision", call: "HashKV", req: ``, want: `@5 hash=284713453 compact_revision=-1 hash_revision=5`},
			{call: "LeaseRevoke", req: `ID:7`, want: `@6`},
			{name: "a revocation", call: "HashKV", req: ``, want: `@6 hash=70132606 compact_revision=-1 hash_revision=6`},
			{call: "Compact", req: `revision:5 physical:true`, want: `@6`},
			{call: "HashKV", req: ``, want: `@6 hash=492734856 compact_revision=5 hash_revision=6`},
			{only: "etcd", call: "HashKV", req: `revision:5`, want: `@6 hash=284713453 compact_revision=-1 hash_revision=5`},
		}},
		{"compaction at a tombstone", []step{
			{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
			{call: "Put", req: `key:"b" value:"1"`, want: `@3`},
			{call: "Put", req: `key:"a" value:"2"`, want: `@4`},
			{call: "DeleteRange", req: `key:"b"`, want: `@5 deleted=1`},
			{call: "Put", req: `key:"c" value:"1"`, want: `@6`},
			{call: "DeleteRange", req: `key:"c"`, want: `@7 deleted=1`},
			{call: "Put", req: `key:"a" value:"3"`, want: `@8`},
			{name: "before", call: "HashKV", req: ``, want: `@8 hash=1290771345 compact_revision=-1 hash_revision=8`},
			{call: "Compact", req: `revision:5 physical:true`, want: `@8`},
			{only: "etcd", name: "at the compact revision", call: "HashKV", req: `revision:5`, want: `@8 hash=1416966122 compact_revision=-1 hash_revision=5`},
			{name: "above it", call: "HashKV", req: `revision:6`, want: `@8 hash=709067906 compact_revision=5 hash_revision=6`},
			{name: "at a later tombstone", call: "HashKV", req: `revision:7`, want: `@8 hash=2195852318 compact_revision=5 hash_revision=7`},
			{name: "at the end", call: "HashKV", req: ``, want: `@8 hash=1111644921 compact_revision=5 hash_revision=8`},
			{name: "below", call: "HashKV", req: `revision:4`, want: compacted},
			{call: "Compact", req: `revision:7 physical:true`, want: `@8`},
			{only: "etcd", call: "HashKV", req: `revision:7`, want: `@8 hash=2195852318 compact_revision=5 hash_revision=7`},
			{call: "HashKV", req: ``, want: `@8 hash=749978455 compact_revision=7 hash_revision=8`},
			{only: "etcd", name: "a compact revision of the past", call: "HashKV", req: `revision:5`, want: `@8 hash=1416966122 compact_revision=-1 hash_revision=5`},
			{call: "HashKV", req: `revision:6`, want: compacted},
		}},
		{"nothing left", []step{
			{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
			{call: "Put", req: `key:"a" value:"2"`, want: `@3`},
			{call: "DeleteRange", req: `key:"a"`, want: `@4 deleted=1`},
			{call: "Compact", req: `revision:4 physical:true`, want: `@4`},
			{name: "only the tombstone at the compact revision", call: "HashKV", req: ``, want: `@4 hash=1084519789 compact_revision=4 hash_revision=4`},
			{call: "Put", req: `key:"b" value:"1"`, want: `@5`},
			{call: "HashKV", req: ``, want: `@5 hash=800756125 compact_revision=4 hash_revision=5`},
			{call: "Compact", req: `revision:5 physical:true`, want: `@5`},
			{call: "HashKV", req: ``, want: `@5 hash=800756125 compact_revision=5 hash_revision=5`},
		}},
	}
	for _, history := range histories {
		t.Run(history.name, func(t *testing.T) {
			check(t, start(t), history.steps)
		})
	}
}

// TestHashKVCompacted: the hash at a compact revision is that of the moment
// before its compaction, until a restart; then it is that of what was kept.
func TestHashKVCompacted(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{call: "Put", req: `key:"b" value:"1"`, want: `@3`},
		{call: "Put", req: `key:"a" value:"2"`, want: `@4`},
		{call: "DeleteRange", req: `key:"b"`, want: `@5 deleted=1`},
		{call: "Put", req: `key:"c" value:"1"`, want: `@6`},
		{call: "HashKV", req: `revision:4`, want: `@6 hash=3086679940 compact_revision=-1 hash_revision=4`},
		{call: "Compact", req: `revision:4 physical:true`, want: `@6`},
		{only: "etcd", call: "HashKV", req: `revision:4`, want: `@6 hash=3086679940 compact_revision=-1 hash_revision=4`},
		{name: "no cache: as after a restart", only: "ringbolt", call: "HashKV", req: `revision:4`, want: `@6 hash=2393049859 compact_revision=4 hash_revision=4`},
		{call: "HashKV", req: `revision:5`, want: `@6 hash=194725478 compact_revision=4 hash_revision=5`},
		{call: "HashKV", req: `revision:6`, want: `@6 hash=2664599291 compact_revision=4 hash_revision=6`},
	})
	s.kill()
	s.run()
	check(t, s, []step{
		{name: "after a restart", call: "HashKV", req: `revision:4`, want: `@6 hash=2393049859 compact_revision=4 hash_revision=4`},
		{call: "HashKV", req: `revision:5`, want: `@6 hash=194725478 compact_revision=4 hash_revision=5`},
		{call: "HashKV", req: `revision:6`, want: `@6 hash=2664599291 compact_revision=4 hash_revision=6`},
	})
}
