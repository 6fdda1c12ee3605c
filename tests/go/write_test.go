package contract

import "testing"

func TestPut(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{name: "an empty store is at 1", call: "Range", req: `key:"a"`, want: `@1`},
		{name: "the first put is at 2", call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{name: "the same value again counts", call: "Put", req: `key:"a" value:"1"`, want: `@3`},
		{call: "Range", req: `key:"a"`, want: `@3 kvs=[a=1/2.3.2] count=1`},
		{name: "previous value", call: "Put", req: `key:"a" value:"2" prev_kv:true`, want: `@4 prev_kv=a=1/2.3.2`},
		{name: "no previous value", call: "Put", req: `key:"b" value:"2" prev_kv:true`, want: `@5`},

		{name: "no key", call: "Put", req: `value:"1"`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "key before value", call: "Put", req: `value:"1" ignore_value:true`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "a value that is to be ignored", call: "Put", req: `key:"a" value:"1" ignore_value:true`, want: `InvalidArgument: etcdserver: value is provided`},
		{name: "value before lease", call: "Put", req: `key:"a" value:"1" ignore_value:true lease:3 ignore_lease:true`, want: `InvalidArgument: etcdserver: value is provided`},
		{name: "a lease that is to be ignored", call: "Put", req: `key:"a" lease:3 ignore_lease:true`, want: `InvalidArgument: etcdserver: lease is provided`},
		{name: "ignored value of a missing key", call: "Put", req: `key:"x" ignore_value:true`, want: `InvalidArgument: etcdserver: key not found`},
		{name: "ignored lease of a missing key", call: "Put", req: `key:"x" value:"1" ignore_lease:true`, want: `InvalidArgument: etcdserver: key not found`},
		{name: "unknown lease", call: "Put", req: `key:"a" value:"1" lease:3`, want: `NotFound: etcdserver: requested lease not found`},
		{name: "negative lease", call: "Put", req: `key:"a" value:"1" lease:-3`, want: `NotFound: etcdserver: requested lease not found`},
		{name: "lease before the missing key", call: "Put", req: `key:"x" ignore_value:true lease:3`, want: `NotFound: etcdserver: requested lease not found`},
		{name: "an error leaves no trace", call: "Range", req: `key:"a" range_end:"z"`, want: `@5 kvs=[a=2/2.4.3 b=2/5.5.1] count=2`},

		{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@5 ID=7 TTL=5000`},
		{call: "LeaseGrant", req: `ID:8 TTL:5000`, want: `@5 ID=8 TTL=5000`},
		{name: "attach", call: "Put", req: `key:"a" value:"3" lease:7`, want: `@6`},
		{name: "keep the value", call: "Put", req: `key:"a" ignore_value:true lease:8 prev_kv:true`, want: `@7 prev_kv=a=3/2.6.4L7`},
		{name: "keep the lease", call: "Put", req: `key:"a" value:"4" ignore_lease:true`, want: `@8`},
		{call: "Range", req: `key:"a"`, want: `@8 kvs=[a=4/2.8.6L8] count=1`},
		{name: "keep both", call: "Put", req: `key:"a" ignore_value:true ignore_lease:true`, want: `@9`},
		{call: "Range", req: `key:"a"`, want: `@9 kvs=[a=4/2.9.7L8] count=1`},
		{name: "keep the value, drop the lease", call: "Put", req: `key:"a" ignore_value:true`, want: `@10`},
		{call: "Range", req: `key:"a"`, want: `@10 kvs=[a=4/2.10.8] count=1`},
		{name: "detached", call: "LeaseRevoke", req: `ID:8`, want: `@10`},
		{call: "Range", req: `key:"a"`, want: `@10 kvs=[a=4/2.10.8] count=1`},

		{name: "the lease was kept by ignore_lease", call: "Put", req: `key:"c" value:"1" lease:7`, want: `@11`},
		{call: "Put", req: `key:"c" value:"2" ignore_lease:true`, want: `@12`},
		{call: "LeaseTimeToLive", req: `ID:7 keys:true`, want: `@12 ID=7 TTL=* grantedTTL=5000 keys=[c]`},

		{name: "deletion ends the life", call: "DeleteRange", req: `key:"a"`, want: `@13 deleted=1`},
		{name: "a deleted key is missing", call: "Put", req: `key:"a" ignore_value:true`, want: `InvalidArgument: etcdserver: key not found`},
		{name: "no previous value after deletion", call: "Put", req: `key:"a" value:"9" prev_kv:true`, want: `@14`},
		{name: "a new life", call: "Range", req: `key:"a"`, want: `@14 kvs=[a=9/14.14.1] count=1`},
		{name: "a key with many bytes", call: "Put", req: `key:"\001\002\377"`, want: `@15`},
	})
}

func TestDeleteRange(t *testing.T) {
	s := start(t)
	check(t, s, alphabet)
	check(t, s, []step{
		{name: "no key", call: "DeleteRange", req: ``, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "no key, but an end", call: "DeleteRange", req: `range_end:"z"`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "nothing to delete makes no revision", call: "DeleteRange", req: `key:"x"`, want: `@11`},
		{name: "nothing to delete, previous values", call: "DeleteRange", req: `key:"x" prev_kv:true`, want: `@11`},
		{name: "end below key", call: "DeleteRange", req: `key:"d" range_end:"a"`, want: `@11`},
		{name: "end equals key", call: "DeleteRange", req: `key:"d" range_end:"d"`, want: `@11`},
		{name: "one key", call: "DeleteRange", req: `key:"a" prev_kv:true`, want: `@12 deleted=1 prev_kvs=[a=5/2.2.1]`},
		{name: "twice", call: "DeleteRange", req: `key:"a"`, want: `@12`},
		{name: "a range is one revision", call: "DeleteRange", req: `key:"b" range_end:"d" prev_kv:true`, want: `@13 deleted=2 prev_kvs=[b=9/3.7.2 c=3/9.9.1]`},
		{name: "from a key", call: "DeleteRange", req: `key:"g" range_end:"\000" prev_kv:true`, want: `@14 deleted=2 prev_kvs=[g=0/10.10.1 h=8/11.11.1L7]`},
		{name: "deletion detaches", call: "LeaseTimeToLive", req: `ID:7 keys:true`, want: `@14 ID=7 TTL=* grantedTTL=5000`},
		{name: "so revoking deletes nothing", call: "LeaseRevoke", req: `ID:7`, want: `@14`},
		{name: "everything", call: "DeleteRange", req: `key:"\000" range_end:"\000"`, want: `@15 deleted=3`},
		{name: "everything of nothing", call: "DeleteRange", req: `key:"\000" range_end:"\000"`, want: `@15`},
		{call: "Range", req: `key:"\000" range_end:"\000"`, want: `@15`},
		{name: "the past stays", call: "Range", req: `key:"\000" range_end:"\000" revision:14 keys_only:true`, want: `@15 kvs=[d=/5.5.1 e=/6.6.1 f=/10.10.1] count=3`},
	})
}

func TestCompact(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{name: "a revision to come", call: "Compact", req: `revision:2`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "revision 1 of an empty store", call: "Compact", req: `revision:1`, want: `@1`},
		{name: "once only", call: "Compact", req: `revision:1`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "zero", call: "Compact", req: ``, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "negative", call: "Compact", req: `revision:-4`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},

		{call: "Put", req: `key:"a" value:"1"`, want: `@2`},
		{call: "Put", req: `key:"a" value:"2"`, want: `@3`},
		{call: "Put", req: `key:"b" value:"1"`, want: `@4`},
		{call: "DeleteRange", req: `key:"b"`, want: `@5 deleted=1`},
		{call: "Put", req: `key:"a" value:"3"`, want: `@6`},
		{call: "Put", req: `key:"c" value:"1"`, want: `@7`},

		{name: "future", call: "Compact", req: `revision:8`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "at a tombstone", call: "Compact", req: `revision:5`, want: `@7`},
		{name: "below", call: "Range", req: `key:"a" revision:4`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "below, count only", call: "Range", req: `key:"a" revision:1 count_only:true`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "below, nothing in range", call: "Range", req: `key:"z" range_end:"y" revision:1`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "the compact revision stays readable", call: "Range", req: `key:"a" range_end:"z" revision:5`, want: `@7 kvs=[a=2/2.3.2] count=1`},
		{name: "the deleted key is gone there", call: "Range", req: `key:"b" revision:5`, want: `@7`},
		{name: "above", call: "Range", req: `key:"a" revision:6`, want: `@7 kvs=[a=3/2.6.3] count=1`},
		{name: "latest", call: "Range", req: `key:"a" range_end:"z"`, want: `@7 kvs=[a=3/2.6.3 c=1/7.7.1] count=2`},
		{name: "negative is still the latest", call: "Range", req: `key:"c" revision:-1`, want: `@7 kvs=[c=1/7.7.1] count=1`},
		{name: "backwards", call: "Compact", req: `revision:4`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "at the current revision, waiting for the end", call: "Compact", req: `revision:7 physical:true`, want: `@7`},
		{name: "latest", call: "Range", req: `key:"a" range_end:"z"`, want: `@7 kvs=[a=3/2.6.3 c=1/7.7.1] count=2`},
		{name: "versions go on", call: "Put", req: `key:"a" value:"4"`, want: `@8`},
		{call: "Range", req: `key:"a"`, want: `@8 kvs=[a=4/2.8.4] count=1`},
		{name: "the compact revision as a past one", call: "Range", req: `key:"a" revision:7`, want: `@8 kvs=[a=3/2.6.3] count=1`},
		{name: "a new life after compaction", call: "Put", req: `key:"b" value:"5" prev_kv:true`, want: `@9`},
		{call: "Range", req: `key:"b"`, want: `@9 kvs=[b=5/9.9.1] count=1`},
	})
}
