package contract

import (
	"fmt"
	"strings"
	"testing"
)

func TestTxnCompare(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{call: "Put", req: `key:"a" value:"m"`, want: `@2`},
		{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@2 ID=7 TTL=5000`},
		{call: "Put", req: `key:"b" value:"x"`, want: `@3`},
		{call: "Put", req: `key:"b" value:"m" lease:7`, want: `@4`},
		{call: "Put", req: `key:"c" value:""`, want: `@5`},
	})
	rows := []struct {
		compare string
		holds   bool
	}{
		// On b: version 2, created at 3, modified at 4, value m, lease 7.
		{`key:"b" target:VERSION version:2`, true},
		{`key:"b" target:VERSION version:3`, false},
		{`key:"b" target:VERSION result:NOT_EQUAL version:3`, true},
		{`key:"b" target:VERSION result:NOT_EQUAL version:2`, false},
		{`key:"b" target:VERSION result:GREATER version:1`, true},
		{`key:"b" target:VERSION result:GREATER version:2`, false},
		{`key:"b" target:VERSION result:LESS version:3`, true},
		{`key:"b" target:VERSION result:LESS version:2`, false},
		{`key:"b" target:CREATE create_revision:3`, true},
		{`key:"b" target:CREATE create_revision:4`, false},
		{`key:"b" target:CREATE result:GREATER create_revision:2`, true},
		{`key:"b" target:CREATE result:LESS create_revision:3`, false},
		{`key:"b" target:CREATE result:NOT_EQUAL create_revision:2`, true},
		{`key:"b" target:MOD mod_revision:4`, true},
		{`key:"b" target:MOD mod_revision:3`, false},
		{`key:"b" target:MOD result:GREATER mod_revision:4`, false},
		{`key:"b" target:MOD result:LESS mod_revision:5`, true},
		{`key:"b" target:MOD result:NOT_EQUAL mod_revision:4`, false},
		{`key:"b" target:VALUE value:"m"`, true},
		{`key:"b" target:VALUE value:"n"`, false},
		{`key:"b" target:VALUE result:GREATER value:"l"`, true},
		{`key:"b" target:VALUE result:GREATER value:"mm"`, false},
		{`key:"b" target:VALUE result:LESS value:"m\000"`, true},
		{`key:"b" target:VALUE result:NOT_EQUAL value:"M"`, true},
		{`key:"b" target:LEASE lease:7`, true},
		{`key:"b" target:LEASE lease:0`, false},
		{`key:"b" target:LEASE result:GREATER lease:6`, true},
		{`key:"b" target:LEASE result:LESS lease:7`, false},
		{`key:"a" target:LEASE lease:0`, true},
		{`key:"b" target:MOD result:GREATER mod_revision:-1`, true},

		// A union that is absent or of another target counts as zero or empty.
		{`key:"b" target:MOD`, false},
		{`key:"b" target:MOD result:GREATER`, true},
		{`key:"b" target:MOD version:4`, false},
		{`key:"c" target:VALUE`, true},
		{`key:"c" target:VALUE version:1`, true},

		// A missing key has zeroes, but no value.
		{`key:"x" target:VERSION version:0`, true},
		{`key:"x" target:CREATE create_revision:0`, true},
		{`key:"x" target:MOD mod_revision:0`, true},
		{`key:"x" target:LEASE lease:0`, true},
		{`key:"x" target:MOD result:LESS mod_revision:1`, true},
		{`key:"x" target:MOD result:GREATER mod_revision:0`, false},
		{`key:"x" target:VALUE value:""`, false},
		{`key:"x" target:VALUE result:NOT_EQUAL value:"m"`, false},
		{`key:"x" target:VALUE result:LESS value:"m"`, false},

		// Over a range every key must hold.
		{`key:"a" range_end:"c" target:VALUE value:"m"`, true},
		{`key:"a" range_end:"d" target:VALUE value:"m"`, false},
		{`key:"a" range_end:"d" target:CREATE result:GREATER create_revision:1`, true},
		{`key:"a" range_end:"d" target:CREATE result:GREATER create_revision:2`, false},
		{`key:"a" range_end:"\000" target:MOD result:LESS mod_revision:6`, true},
		{`key:"\000" range_end:"\000" target:VERSION result:LESS version:2`, false},
		{`key:"x" range_end:"z" target:VERSION version:0`, true},
		{`key:"x" range_end:"z" target:VERSION version:1`, false},
		{`key:"x" range_end:"z" target:VALUE value:""`, false},
		{`key:"c" range_end:"a" target:MOD mod_revision:0`, true},

		// Unknown enum numbers.
		{`key:"b" result:7 target:MOD mod_revision:0`, true},
		{`key:"b" target:9`, true},
		{`key:"b" target:9 result:NOT_EQUAL`, false},
	}
	for _, row := range rows {
		want := "@5"
		if row.holds {
			want = "@5 succeeded"
		}
		check(t, s, []step{{name: row.compare, call: "Txn", req: fmt.Sprintf("compare{%s}", row.compare), want: want}})
	}
	check(t, s, []step{
		{name: "no compare holds", call: "Txn", req: ``, want: `@5 succeeded`},
		{name: "all must hold", call: "Txn", req: `compare{key:"b" target:MOD mod_revision:4} compare{key:"b" target:VERSION version:1}`, want: `@5`},
		{name: "no key", call: "Txn", req: `compare{target:MOD}`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "no key, but an end", call: "Txn", req: `compare{target:MOD range_end:"z"}`, want: `InvalidArgument: etcdserver: key is not provided`},
	})
}

func TestTxn(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{name: "empty, on an empty store", call: "Txn", req: ``, want: `@1 succeeded`},
		{name: "the failure branch", call: "Txn", req: `compare{key:"a" target:VERSION version:1} success{request_put{key:"a" value:"s"}} failure{request_put{key:"a" value:"f"}}`,
			want: `@2 responses=[put(~2)]`},
		{name: "the success branch", call: "Txn", req: `compare{key:"a" target:VERSION version:1} success{request_put{key:"a" value:"s" prev_kv:true}} failure{request_put{key:"a" value:"f"}}`,
			want: `@3 succeeded responses=[put(~3 prev_kv=a=f/2.2.1)]`},
		{name: "a taken branch without ops", call: "Txn", req: `compare{key:"a" target:VERSION version:9} success{request_put{key:"a"}}`, want: `@3`},
		{name: "ranges only", call: "Txn", req: `success{request_range{key:"a"}} success{request_range{key:"x"}}`,
			want: `@3 succeeded responses=[range(~3 kvs=[a=s/2.3.2] count=1); range(~3)]`},
		{name: "a serializable one", call: "Txn", req: `success{request_range{key:"a" serializable:true}}`,
			want: `@3 succeeded responses=[range(~3 kvs=[a=s/2.3.2] count=1)]`},
		{name: "a past revision", call: "Txn", req: `success{request_range{key:"a" revision:2}}`,
			want: `@3 succeeded responses=[range(~3 kvs=[a=f/2.2.1] count=1)]`},
		{name: "a deletion of nothing makes no revision", call: "Txn", req: `success{request_delete_range{key:"x"}}`,
			want: `@3 succeeded responses=[delete_range(~3)]`},
		{name: "a nested one that only reads makes no revision", call: "Txn", req: `success{request_txn{success{request_range{key:"a"}}}}`,
			want: `@3 succeeded responses=[txn(~ succeeded responses=[range(~3 kvs=[a=s/2.3.2] count=1)])]`},

		// Inside a write the header is that of the last change so far.
		{name: "range before and after the first change", call: "Txn", req: `
			success{request_range{key:"a"}} success{request_delete_range{key:"x"}} success{request_put{key:"b" value:"1"}}
			success{request_range{key:"a" range_end:"z"}} success{request_delete_range{key:"x"}}`,
			want: `@4 succeeded responses=[range(~3 kvs=[a=s/2.3.2] count=1); delete_range(~3); put(~4);
				range(~4 kvs=[a=s/2.3.2 b=1/4.4.1] count=2); delete_range(~4)]`},
		{name: "a count after a change", call: "Txn", req: `success{request_put{key:"c"}} success{request_range{key:"a" range_end:"z" count_only:true}}`,
			want: `@5 succeeded responses=[put(~5); range(~5 count=3)]`},
		{name: "the revision of this txn is a future one", call: "Txn", req: `success{request_put{key:"b" value:"2"}} success{request_range{key:"b" revision:6}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "the one before is not", call: "Txn", req: `success{request_put{key:"b" value:"2"}} success{request_range{key:"b" revision:5}}`,
			want: `@6 succeeded responses=[put(~6); range(~6 kvs=[b=1/4.4.1] count=1)]`},
		{name: "a future revision in the branch not taken", call: "Txn", req: `success{request_range{key:"b"}} failure{request_range{key:"b" revision:99}}`,
			want: `@6 succeeded responses=[range(~6 kvs=[b=2/4.6.2] count=1)]`},
		{name: "a future revision, ranges only", call: "Txn", req: `success{request_range{key:"b" revision:7}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "an error after a put leaves no trace", call: "Range", req: `key:"b"`, want: `@6 kvs=[b=2/4.6.2] count=1`},
		{name: "delete, then range", call: "Txn", req: `success{request_delete_range{key:"c" prev_kv:true}} success{request_range{key:"c"}}`,
			want: `@7 succeeded responses=[delete_range(~7 deleted=1 prev_kvs=[c=/5.5.1]); range(~7)]`},
		{name: "two deletions of one key", call: "Txn", req: `success{request_delete_range{key:"b" prev_kv:true}} success{request_delete_range{key:"a" range_end:"z" prev_kv:true}}`,
			want: `@8 succeeded responses=[delete_range(~8 deleted=1 prev_kvs=[b=2/4.6.2]); delete_range(~8 deleted=1 prev_kvs=[a=s/2.3.2])]`},
		{name: "limit and sort inside", call: "Txn", req: `success{request_put{key:"d" value:"2"}} success{request_put{key:"e" value:"1"}}
			success{request_range{key:"a" range_end:"z" limit:1}} success{request_range{key:"a" range_end:"z" sort_order:ASCEND sort_target:VALUE keys_only:true}}`,
			want: `@9 succeeded responses=[put(~9); put(~9); range(~9 kvs=[d=2/9.9.1] more count=2); range(~9 kvs=[e=/9.9.1 d=/9.9.1] count=2)]`},

		// Nested transactions.
		{name: "nested, both branches, three deep", call: "Txn", req: `
			compare{key:"d" target:VALUE value:"2"}
			success{request_txn{
				compare{key:"d" target:VALUE value:"x"}
				success{request_put{key:"n" value:"wrong"}}
				failure{request_put{key:"n" value:"1"}}
				failure{request_txn{success{request_range{key:"n"}} success{request_put{key:"o" value:"2"}}}}
			}}
			success{request_range{key:"n" range_end:"p"}}
			failure{request_put{key:"d" value:"wrong"}}`,
			want: `@10 succeeded responses=[txn(~ responses=[put(~10); txn(~ succeeded responses=[range(~10 kvs=[n=1/10.10.1] count=1); put(~10)])]);
				range(~10 kvs=[n=1/10.10.1 o=2/10.10.1] count=2)]`},
		{name: "nested compares see the state before", call: "Txn", req: `success{request_put{key:"p" value:"1"}}
			success{request_txn{compare{key:"p" target:VERSION version:0} success{request_range{key:"p"}}}}`,
			want: `@11 succeeded responses=[put(~11); txn(~ succeeded responses=[range(~11 kvs=[p=1/11.11.1] count=1)])]`},
		{name: "empty nested ones", call: "Txn", req: `success{request_txn{}} success{request_txn{compare{key:"p" target:VERSION version:7}}}`,
			want: `@11 succeeded responses=[txn(~ succeeded); txn(~)]`},
		{name: "a nested error", call: "Txn", req: `success{request_put{key:"p" value:"9"}} success{request_txn{success{request_range{key:"p" revision:12}}}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "an error in a nested branch not taken", call: "Txn", req: `success{request_txn{failure{request_put{key:"p" lease:99}}}}`,
			want: `@11 succeeded responses=[txn(~ succeeded)]`},

		// Puts and leases.
		{name: "unknown lease", call: "Txn", req: `success{request_put{key:"q" value:"1"}} success{request_put{key:"r" value:"1" lease:5}}`,
			want: `NotFound: etcdserver: requested lease not found`},
		{name: "ignored value of a missing key", call: "Txn", req: `success{request_put{key:"q" value:"1"}} success{request_put{key:"r" ignore_value:true}}`,
			want: `InvalidArgument: etcdserver: key not found`},
		{name: "ignored lease of a missing key", call: "Txn", req: `success{request_put{key:"r" ignore_lease:true}}`,
			want: `InvalidArgument: etcdserver: key not found`},
		{name: "missing keys are judged before the txn", call: "Txn", req: `success{request_txn{success{request_put{key:"q" value:"1"}}}} success{request_txn{success{request_range{key:"q"}}}}`,
			want: `@12 succeeded responses=[txn(~ succeeded responses=[put(~12)]); txn(~ succeeded responses=[range(~12 kvs=[q=1/12.12.1] count=1)])]`},
		{name: "the first error counts", call: "Txn", req: `success{request_put{key:"r" ignore_value:true}} success{request_put{key:"s" lease:5}}`,
			want: `InvalidArgument: etcdserver: key not found`},

		// Compacted ranges.
		{call: "Compact", req: `revision:9 physical:true`, want: `@12`},
		{name: "compacted, ranges only", call: "Txn", req: `success{request_range{key:"d" revision:8}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "compacted, in a write", call: "Txn", req: `success{request_put{key:"d" value:"9"}} success{request_range{key:"d" revision:8}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "no trace", call: "Range", req: `key:"d"`, want: `@12 kvs=[d=2/9.9.1] count=1`},
		{name: "the compact revision", call: "Txn", req: `success{request_range{key:"d" revision:9}}`,
			want: `@12 succeeded responses=[range(~12 kvs=[d=2/9.9.1] count=1)]`},
		{name: "a negative revision inside a txn counts as compacted", call: "Txn", req: `success{request_range{key:"d" revision:-1}}`,
			want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
	})
}

func TestTxnRefused(t *testing.T) {
	s := start(t)
	puts := func(prefix string, n int) string {
		var ops []string
		for i := range n {
			ops = append(ops, fmt.Sprintf(`success{request_put{key:"%s%d"}}`, prefix, i))
		}
		return strings.Join(ops, " ")
	}
	ranges := func(n int) string { return strings.Repeat(`success{request_range{key:"a"}} `, n) }
	const (
		tooMany   = `InvalidArgument: etcdserver: too many operations in txn request`
		duplicate = `InvalidArgument: etcdserver: duplicate key given in txn request`
		noKey     = `InvalidArgument: etcdserver: key is not provided`
		notFound  = `InvalidArgument: etcdserver: key not found`
	)
	check(t, s, []step{
		{call: "Put", req: `key:"k" value:"0"`, want: `@2`},

		// Operations that are refused one by one.
		{name: "an op without content", call: "Txn", req: `success{}`, want: notFound},
		{name: "an op without content in the branch not taken", call: "Txn", req: `failure{}`, want: notFound},
		{name: "a nested op without content", call: "Txn", req: `success{request_txn{failure{}}}`, want: notFound},
		{name: "range without key", call: "Txn", req: `failure{request_range{}}`, want: noKey},
		{name: "put without key", call: "Txn", req: `success{request_put{value:"1"}}`, want: noKey},
		{name: "delete without key", call: "Txn", req: `success{request_delete_range{}}`, want: noKey},
		{name: "nested compare without key", call: "Txn", req: `success{request_txn{compare{}}}`, want: noKey},
		{name: "unknown sort", call: "Txn", req: `failure{request_range{key:"a" sort_order:7}}`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "a value that is to be ignored", call: "Txn", req: `success{request_put{key:"a" value:"1" ignore_value:true}}`, want: `InvalidArgument: etcdserver: value is provided`},
		{name: "a lease that is to be ignored", call: "Txn", req: `failure{request_put{key:"a" lease:1 ignore_lease:true}}`, want: `InvalidArgument: etcdserver: lease is provided`},
		{name: "compares come first", call: "Txn", req: `compare{} success{}`, want: noKey},
		{name: "success comes before failure", call: "Txn", req: `success{} failure{request_range{}}`, want: notFound},

		// The number of operations.
		{name: "128 ops", call: "Txn", req: ranges(128), want: `@2 succeeded responses=[` + strings.TrimSuffix(strings.Repeat("range(~2); ", 128), "; ") + `]`},
		{name: "129 ops", call: "Txn", req: ranges(129), want: tooMany},
		{name: "129 failure ops", call: "Txn", req: strings.ReplaceAll(ranges(129), "success", "failure"), want: tooMany},
		{name: "129 compares", call: "Txn", req: strings.Repeat(`compare{key:"a" target:MOD} `, 129), want: tooMany},
		{name: "128 of each", call: "Txn", req: strings.Repeat(`compare{key:"a" target:MOD mod_revision:9} success{request_range{key:"a"}} failure{request_range{key:"k"}} `, 128),
			want: `@2 responses=[` + strings.TrimSuffix(strings.Repeat("range(~2 kvs=[k=0/2.2.1] count=1); ", 128), "; ") + `]`},
		{name: "too many before no key", call: "Txn", req: `compare{} ` + ranges(129), want: tooMany},
		{name: "a nested one has what the outer leaves", call: "Txn", req: ranges(99) + `success{request_txn{` + ranges(28) + `}}`,
			want: `@2 succeeded responses=[` + strings.Repeat("range(~2); ", 99) + `txn(~ succeeded responses=[` + strings.TrimSuffix(strings.Repeat("range(~2); ", 28), "; ") + `])]`},
		{name: "and not one more", call: "Txn", req: ranges(99) + `success{request_txn{` + ranges(29) + `}}`, want: tooMany},
		{name: "siblings do not share what is left", call: "Txn", req: `success{request_txn{` + ranges(126) + `}} success{request_txn{` + ranges(126) + `}}`,
			want: `@2 succeeded responses=[` + strings.TrimSuffix(strings.Repeat(`txn(~ succeeded responses=[`+strings.TrimSuffix(strings.Repeat("range(~2); ", 126), "; ")+`]); `, 2), "; ") + `]`},
		{name: "the largest of the three counts", call: "Txn", req: strings.Repeat(`compare{key:"a" target:MOD} `, 128) + `success{request_txn{` + ranges(1) + `}}`, want: tooMany},
		{name: "too many before duplicates", call: "Txn", req: `success{request_put{key:"a"}} success{request_put{key:"a"}} success{request_txn{` + ranges(126) + `}}`, want: tooMany},
		{name: "a nested empty one is free", call: "Txn", req: ranges(127) + `success{request_txn{}}`,
			want: `@2 succeeded responses=[` + strings.Repeat("range(~2); ", 127) + `txn(~ succeeded)]`},

		// Duplicate keys.
		{name: "two puts", call: "Txn", req: `success{request_put{key:"a"}} success{request_put{key:"a"}}`, want: duplicate},
		{name: "two puts in the branch not taken", call: "Txn", req: `failure{request_put{key:"a"}} failure{request_put{key:"a"}}`, want: duplicate},
		{name: "put and delete", call: "Txn", req: `success{request_put{key:"a"}} success{request_delete_range{key:"a"}}`, want: duplicate},
		{name: "delete and put", call: "Txn", req: `success{request_delete_range{key:"a"}} success{request_put{key:"a"}}`, want: duplicate},
		{name: "put into a deleted range", call: "Txn", req: `success{request_put{key:"b"}} success{request_delete_range{key:"a" range_end:"c"}}`, want: duplicate},
		{name: "a nested put of the same key", call: "Txn", req: `success{request_put{key:"a"}} success{request_txn{success{request_put{key:"a"}}}}`, want: duplicate},
		{name: "a nested put into a deleted range", call: "Txn", req: `success{request_delete_range{key:"a" range_end:"z"}} success{request_txn{failure{request_put{key:"b"}}}}`, want: duplicate},
		{name: "a put and a nested delete", call: "Txn", req: `success{request_put{key:"a"}} success{request_txn{success{request_delete_range{key:"a"}}}}`, want: duplicate},
		{name: "puts in siblings", call: "Txn", req: `success{request_txn{success{request_put{key:"a"}}}} success{request_txn{success{request_put{key:"a"}}}}`, want: duplicate},
		{name: "puts in siblings, other branches", call: "Txn", req: `success{request_txn{success{request_put{key:"a"}}}} success{request_txn{failure{request_put{key:"a"}}}}`, want: duplicate},
		{name: "delete, then put in siblings", call: "Txn", req: `success{request_txn{success{request_delete_range{key:"a"}}}} success{request_txn{success{request_put{key:"a"}}}}`, want: duplicate},
		{name: "nothing was written", call: "Range", req: `key:"a" range_end:"z"`, want: `@2 kvs=[k=0/2.2.1] count=1`},

		// What looks like a duplicate and is none.
		{name: "the same key in both branches", call: "Txn", req: `success{request_put{key:"a"}} failure{request_put{key:"a"}}`,
			want: `@3 succeeded responses=[put(~3)]`},
		{name: "the same key in both branches of a nested one", call: "Txn", req: `success{request_txn{success{request_put{key:"a"}} failure{request_put{key:"a"}}}}`,
			want: `@4 succeeded responses=[txn(~ succeeded responses=[put(~4)])]`},
		{name: "overlapping deletions", call: "Txn", req: `success{request_delete_range{key:"a"}} success{request_delete_range{key:"a" range_end:"c"}}`,
			want: `@5 succeeded responses=[delete_range(~5 deleted=1); delete_range(~5)]`},
		{name: "range and put", call: "Txn", req: `success{request_range{key:"a"}} success{request_put{key:"a"}} success{request_range{key:"a"}}`,
			want: `@6 succeeded responses=[range(~5); put(~6); range(~6 kvs=[a=/6.6.1] count=1)]`},
		{name: "a put at the end of a deleted range", call: "Txn", req: `success{request_delete_range{key:"a" range_end:"c"}} success{request_put{key:"c"}}`,
			want: `@7 succeeded responses=[delete_range(~7 deleted=1); put(~7)]`},
		{name: "put, then delete in siblings", call: "Txn", req: `success{request_txn{success{request_put{key:"k" value:"1"}}}} success{request_txn{success{request_delete_range{key:"k" prev_kv:true}}}}`,
			want: `@8 succeeded responses=[txn(~ succeeded responses=[put(~8)]); txn(~ succeeded responses=[delete_range(~8 deleted=1 prev_kvs=[k=1/2.8.2])])]`},
		{name: "after which the key is gone", call: "Range", req: `key:"k"`, want: `@8`},
		{name: "put and delete in siblings, a new key", call: "Txn", req: `success{request_txn{success{request_put{key:"n" value:"1" prev_kv:true}}}} success{request_txn{success{request_delete_range{key:"n" range_end:"o" prev_kv:true}}}}`,
			want: `@9 succeeded responses=[txn(~ succeeded responses=[put(~9)]); txn(~ succeeded responses=[delete_range(~9 deleted=1 prev_kvs=[n=1/9.9.1])])]`},
		{call: "Put", req: `key:"q" value:"0"`, want: `@10`},
		{name: "an end of one zero byte hides a deletion: put, then delete", call: "Txn", req: `success{request_put{key:"q" value:"1"}} success{request_delete_range{key:"q" range_end:"\000" prev_kv:true}}`,
			want: `@11 succeeded responses=[put(~11); delete_range(~11 deleted=1 prev_kvs=[q=1/10.11.2])]`},
		{call: "Put", req: `key:"q" value:"2"`, want: `@12`},
		{name: "an end of one zero byte hides a deletion: delete, then put", call: "Txn", req: `success{request_delete_range{key:"q" range_end:"\000" prev_kv:true}} success{request_put{key:"q" value:"3" prev_kv:true}} success{request_range{key:"q"}}`,
			want: `@13 succeeded responses=[delete_range(~13 deleted=1 prev_kvs=[q=2/12.12.1]); put(~13); range(~13 kvs=[q=3/13.13.1] count=1)]`},
		{name: "keep a value that this txn has deleted (an etcd 3.7.3 panics, now and at every start)", only: "ringbolt", call: "Txn",
			req: `success{request_delete_range{key:"q" range_end:"\000"}} success{request_put{key:"q" ignore_value:true}}`, want: notFound},
		{name: "keep a lease that this txn has deleted (the same)", only: "ringbolt", call: "Txn",
			req: `success{request_delete_range{key:"q" range_end:"\000"}} success{request_put{key:"q" ignore_lease:true}}`, want: notFound},
		{name: "a put inside a deletion that ends below its key", call: "Txn", req: `success{request_delete_range{key:"r" range_end:"a"}} success{request_put{key:"b"}}`,
			want: `@14 succeeded responses=[delete_range(~13); put(~14)]`},
		{name: "128 puts", call: "Txn", req: puts("p", 128), want: `@15 succeeded responses=[` + strings.TrimSuffix(strings.Repeat("put(~15); ", 128), "; ") + `]`},
		{name: "129 puts", call: "Txn", req: puts("p", 129), want: tooMany},
	})
}

// TestMaxTxnOps: the flag moves the limit.
func TestMaxTxnOps(t *testing.T) {
	s := start(t, "--max-txn-ops=3")
	check(t, s, []step{
		{call: "Txn", req: strings.Repeat(`success{request_range{key:"a"}} `, 3), want: `@1 succeeded responses=[range(~1); range(~1); range(~1)]`},
		{call: "Txn", req: strings.Repeat(`success{request_range{key:"a"}} `, 4), want: `InvalidArgument: etcdserver: too many operations in txn request`},
	})
}
