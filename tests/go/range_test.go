package contract

import (
	"fmt"
	"strings"
	"testing"
)

// alphabet is the history that the Range tables read: eight keys, one of them
// overwritten, one deleted and born again, two of one revision, one on a lease.
var alphabet = []step{
	{call: "Range", req: `key:"a"`, want: `@1`},
	{call: "Put", req: `key:"a" value:"5"`, want: `@2`},
	{call: "Put", req: `key:"b" value:"4"`, want: `@3`},
	{call: "Put", req: `key:"c" value:"3"`, want: `@4`},
	{call: "Put", req: `key:"d" value:"2"`, want: `@5`},
	{call: "Put", req: `key:"e" value:"1"`, want: `@6`},
	{call: "Put", req: `key:"b" value:"9"`, want: `@7`},
	{call: "DeleteRange", req: `key:"c"`, want: `@8 deleted=1`},
	{call: "Put", req: `key:"c" value:"3"`, want: `@9`},
	{call: "Txn", req: `success{request_put{key:"f" value:"0"}} success{request_put{key:"g" value:"0"}}`,
		want: `@10 succeeded responses=[put(~10); put(~10)]`},
	{call: "LeaseGrant", req: `ID:7 TTL:5000`, want: `@10 ID=7 TTL=5000`},
	{call: "Put", req: `key:"h" value:"8" lease:7`, want: `@11`},
}

func TestRange(t *testing.T) {
	s := start(t)
	check(t, s, alphabet)
	const all = `a=5/2.2.1 b=9/3.7.2 c=3/9.9.1 d=2/5.5.1 e=1/6.6.1 f=0/10.10.1 g=0/10.10.1 h=8/11.11.1L7`
	check(t, s, []step{
		// The key and the end of the range.
		{name: "one key", call: "Range", req: `key:"b"`, want: `@11 kvs=[b=9/3.7.2] count=1`},
		{name: "a missing key", call: "Range", req: `key:"bb"`, want: `@11`},
		{name: "half-open range", call: "Range", req: `key:"b" range_end:"d"`, want: `@11 kvs=[b=9/3.7.2 c=3/9.9.1] count=2`},
		{name: "prefix", call: "Range", req: `key:"h" range_end:"i"`, want: `@11 kvs=[h=8/11.11.1L7] count=1`},
		{name: "from a key", call: "Range", req: `key:"f" range_end:"\000"`, want: `@11 kvs=[f=0/10.10.1 g=0/10.10.1 h=8/11.11.1L7] count=3`},
		{name: "from beyond the last key", call: "Range", req: `key:"z" range_end:"\000"`, want: `@11`},
		{name: "everything", call: "Range", req: `key:"\000" range_end:"\000"`, want: `@11 kvs=[` + all + `] count=8`},
		{name: "end equals key", call: "Range", req: `key:"b" range_end:"b"`, want: `@11`},
		{name: "end below key", call: "Range", req: `key:"d" range_end:"b"`, want: `@11`},
		{name: "end one zero byte longer", call: "Range", req: `key:"b" range_end:"b\000"`, want: `@11 kvs=[b=9/3.7.2] count=1`},
		{name: "an end of two zero bytes is a plain end", call: "Range", req: `key:"a" range_end:"\000\000"`, want: `@11`},
		{name: "serializable", call: "Range", req: `key:"a" serializable:true`, want: `@11 kvs=[a=5/2.2.1] count=1`},

		// Checks, in their order.
		{name: "no key", call: "Range", req: ``, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "no key, but an end", call: "Range", req: `range_end:"z"`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "key before sort", call: "Range", req: `sort_order:9`, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "unknown order", call: "Range", req: `key:"a" sort_order:3`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "negative order", call: "Range", req: `key:"a" sort_order:-1`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "unknown target", call: "Range", req: `key:"a" sort_target:5`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "sort before revision", call: "Range", req: `key:"a" sort_target:5 revision:99`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "future revision", call: "Range", req: `key:"a" revision:12`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "future revision, serializable", call: "Range", req: `key:"a" revision:12 serializable:true`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "future revision of an empty range", call: "Range", req: `key:"b" range_end:"a" revision:12`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{name: "negative revision is the latest", call: "Range", req: `key:"b" revision:-5`, want: `@11 kvs=[b=9/3.7.2] count=1`},

		// Limit, more and count.
		{name: "limit", call: "Range", req: `key:"a" range_end:"z" limit:2`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] more count=8`},
		{name: "limit as large as the range", call: "Range", req: `key:"a" range_end:"c" limit:2`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] count=2`},
		{name: "limit above the range", call: "Range", req: `key:"a" range_end:"c" limit:3`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] count=2`},
		{name: "largest limit", call: "Range", req: `key:"a" range_end:"c" limit:9223372036854775807`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] count=2`},
		{name: "negative limit is none", call: "Range", req: `key:"a" range_end:"c" limit:-1`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] count=2`},
		{name: "limit of one key", call: "Range", req: `key:"a" limit:1`, want: `@11 kvs=[a=5/2.2.1] count=1`},
		{name: "limit from a key", call: "Range", req: `key:"e" range_end:"\000" limit:1`, want: `@11 kvs=[e=1/6.6.1] more count=4`},
		{name: "count only", call: "Range", req: `key:"a" range_end:"z" count_only:true`, want: `@11 count=8`},
		{name: "count only ignores the limit", call: "Range", req: `key:"a" range_end:"z" count_only:true limit:2`, want: `@11 count=8`},
		{name: "count only ignores filters", call: "Range", req: `key:"a" range_end:"z" count_only:true min_mod_revision:9`, want: `@11 count=8`},
		{name: "count only of a past revision", call: "Range", req: `key:"a" range_end:"z" count_only:true revision:4`, want: `@11 count=3`},
		{name: "count only of a missing key", call: "Range", req: `key:"x" count_only:true`, want: `@11`},
		{name: "count only, future", call: "Range", req: `key:"x" count_only:true revision:12`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},

		// Keys only: the lease is left out unless the answer is sorted by value.
		{name: "keys only", call: "Range", req: `key:"a" range_end:"c" keys_only:true`, want: `@11 kvs=[a=/2.2.1 b=/3.7.2] count=2`},
		{name: "keys only hides the lease", call: "Range", req: `key:"h" keys_only:true`, want: `@11 kvs=[h=/11.11.1] count=1`},
		{name: "keys only by value keeps the lease", call: "Range", req: `key:"h" keys_only:true sort_order:ASCEND sort_target:VALUE`, want: `@11 kvs=[h=/11.11.1L7] count=1`},
		{name: "keys only by value sorts before it cuts", call: "Range", req: `key:"a" range_end:"f" keys_only:true sort_order:ASCEND sort_target:VALUE limit:2`, want: `@11 kvs=[e=/6.6.1 d=/5.5.1] more count=5`},
		{name: "keys only with limit", call: "Range", req: `key:"a" range_end:"z" keys_only:true limit:1`, want: `@11 kvs=[a=/2.2.1] more count=8`},
		{name: "keys only in the past", call: "Range", req: `key:"a" range_end:"z" keys_only:true revision:4`, want: `@11 kvs=[a=/2.2.1 b=/3.3.1 c=/4.4.1] count=3`},
		{name: "keys only with a filter", call: "Range", req: `key:"a" range_end:"z" keys_only:true min_mod_revision:10`, want: `@11 kvs=[f=/10.10.1 g=/10.10.1 h=/11.11.1] count=8`},
		{name: "keys only of nothing", call: "Range", req: `key:"x" keys_only:true`, want: `@11`},
		{name: "keys and count only", call: "Range", req: `key:"a" range_end:"z" keys_only:true count_only:true`, want: `@11 count=8`},

		// Sort orders.
		{name: "descending by key", call: "Range", req: `key:"a" range_end:"d" sort_order:DESCEND`, want: `@11 kvs=[c=3/9.9.1 b=9/3.7.2 a=5/2.2.1] count=3`},
		{name: "descending by key, cut after the sort", call: "Range", req: `key:"a" range_end:"z" sort_order:DESCEND limit:1`, want: `@11 kvs=[h=8/11.11.1L7] more count=8`},
		{name: "ascending by key", call: "Range", req: `key:"a" range_end:"d" sort_order:ASCEND limit:2`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] more count=3`},
		{name: "ascending by create", call: "Range", req: `key:"a" range_end:"e" sort_order:ASCEND sort_target:CREATE`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2 d=2/5.5.1 c=3/9.9.1] count=4`},
		{name: "descending by create", call: "Range", req: `key:"a" range_end:"e" sort_order:DESCEND sort_target:CREATE limit:2`, want: `@11 kvs=[c=3/9.9.1 d=2/5.5.1] more count=4`},
		{name: "ascending by mod", call: "Range", req: `key:"a" range_end:"f" sort_order:ASCEND sort_target:MOD limit:4`, want: `@11 kvs=[a=5/2.2.1 d=2/5.5.1 e=1/6.6.1 b=9/3.7.2] more count=5`},
		{name: "descending by mod", call: "Range", req: `key:"a" range_end:"d" sort_order:DESCEND sort_target:MOD`, want: `@11 kvs=[c=3/9.9.1 b=9/3.7.2 a=5/2.2.1] count=3`},
		{name: "ascending by value", call: "Range", req: `key:"a" range_end:"f" sort_order:ASCEND sort_target:VALUE limit:3`, want: `@11 kvs=[e=1/6.6.1 d=2/5.5.1 c=3/9.9.1] more count=5`},
		{name: "descending by value", call: "Range", req: `key:"a" range_end:"f" sort_order:DESCEND sort_target:VALUE limit:1`, want: `@11 kvs=[b=9/3.7.2] more count=5`},
		{name: "descending by version", call: "Range", req: `key:"a" range_end:"c" sort_order:DESCEND sort_target:VERSION`, want: `@11 kvs=[b=9/3.7.2 a=5/2.2.1] count=2`},
		{name: "ascending by version", call: "Range", req: `key:"b" range_end:"d" sort_order:ASCEND sort_target:VERSION`, want: `@11 kvs=[c=3/9.9.1 b=9/3.7.2] count=2`},
		{name: "a target alone sorts upwards", call: "Range", req: `key:"a" range_end:"f" sort_target:VALUE`, want: `@11 kvs=[e=1/6.6.1 d=2/5.5.1 c=3/9.9.1 a=5/2.2.1 b=9/3.7.2] count=5`},
		{name: "a target alone sorts the first limit+1 keys, then cuts", call: "Range", req: `key:"a" range_end:"f" sort_target:VALUE limit:3`, want: `@11 kvs=[d=2/5.5.1 c=3/9.9.1 a=5/2.2.1] more count=5`},
		{name: "a target alone with a filter sorts all", call: "Range", req: `key:"a" range_end:"f" sort_target:VALUE limit:3 min_mod_revision:1`, want: `@11 kvs=[e=1/6.6.1 d=2/5.5.1 c=3/9.9.1] more count=5`},

		// Filters.
		{name: "min mod", call: "Range", req: `key:"a" range_end:"z" min_mod_revision:9`, want: `@11 kvs=[c=3/9.9.1 f=0/10.10.1 g=0/10.10.1 h=8/11.11.1L7] count=8`},
		{name: "max mod", call: "Range", req: `key:"a" range_end:"z" max_mod_revision:6`, want: `@11 kvs=[a=5/2.2.1 d=2/5.5.1 e=1/6.6.1] count=8`},
		{name: "min and max mod", call: "Range", req: `key:"a" range_end:"z" min_mod_revision:5 max_mod_revision:7`, want: `@11 kvs=[b=9/3.7.2 d=2/5.5.1 e=1/6.6.1] count=8`},
		{name: "min create", call: "Range", req: `key:"a" range_end:"z" min_create_revision:10`, want: `@11 kvs=[f=0/10.10.1 g=0/10.10.1 h=8/11.11.1L7] count=8`},
		{name: "max create", call: "Range", req: `key:"a" range_end:"z" max_create_revision:3`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] count=8`},
		{name: "create and mod", call: "Range", req: `key:"a" range_end:"z" max_create_revision:5 min_mod_revision:3`, want: `@11 kvs=[b=9/3.7.2 d=2/5.5.1] count=8`},
		{name: "limit after the filter", call: "Range", req: `key:"a" range_end:"z" min_mod_revision:9 limit:2`, want: `@11 kvs=[c=3/9.9.1 f=0/10.10.1] more count=8`},
		{name: "limit as large as the filtered", call: "Range", req: `key:"a" range_end:"z" min_mod_revision:10 limit:3`, want: `@11 kvs=[f=0/10.10.1 g=0/10.10.1 h=8/11.11.1L7] count=8`},
		{name: "filter and sort", call: "Range", req: `key:"a" range_end:"f" max_mod_revision:7 sort_order:DESCEND sort_target:VALUE limit:2`, want: `@11 kvs=[b=9/3.7.2 a=5/2.2.1] more count=5`},
		{name: "negative filters filter", call: "Range", req: `key:"a" range_end:"z" max_mod_revision:-1`, want: `@11 count=8`},
		{name: "filter with nothing left", call: "Range", req: `key:"a" range_end:"z" min_mod_revision:50 limit:1`, want: `@11 count=8`},

		// Past revisions. The header always has the current one.
		{name: "before the first write", call: "Range", req: `key:"a" range_end:"z" revision:1`, want: `@11`},
		{name: "as of 3", call: "Range", req: `key:"a" range_end:"z" revision:3`, want: `@11 kvs=[a=5/2.2.1 b=4/3.3.1] count=2`},
		{name: "as of the deletion", call: "Range", req: `key:"c" revision:8`, want: `@11`},
		{name: "before the deletion", call: "Range", req: `key:"c" revision:7`, want: `@11 kvs=[c=3/4.4.1] count=1`},
		{name: "after the rebirth", call: "Range", req: `key:"c" revision:9`, want: `@11 kvs=[c=3/9.9.1] count=1`},
		{name: "as of the current", call: "Range", req: `key:"h" revision:11`, want: `@11 kvs=[h=8/11.11.1L7] count=1`},
		{name: "past, limited", call: "Range", req: `key:"a" range_end:"z" revision:6 limit:2`, want: `@11 kvs=[a=5/2.2.1 b=4/3.3.1] more count=5`},
		{name: "past, descending", call: "Range", req: `key:"a" range_end:"z" revision:4 sort_order:DESCEND sort_target:MOD limit:2`, want: `@11 kvs=[c=3/4.4.1 b=4/3.3.1] more count=3`},

		// Bytes are bytes.
		{call: "Put", req: `key:"\000" value:"\377\000"`, want: `@12`},
		{call: "Put", req: `key:"\377\377" value:"\200"`, want: `@13`},
		{name: "the smallest key", call: "Range", req: `key:"\000"`, want: `@13 kvs=[\x00=\xff\x00/12.12.1] count=1`},
		{name: "keys above all text", call: "Range", req: `key:"\377" range_end:"\000"`, want: `@13 kvs=[\xff\xff=\x80/13.13.1] count=1`},
		{name: "an empty value is a value", call: "Put", req: `key:"a"`, want: `@14`},
		{name: "and sorts first", call: "Range", req: `key:"a" range_end:"c" sort_order:ASCEND sort_target:VALUE`, want: `@14 kvs=[a=/2.14.2 b=9/3.7.2] count=2`},
	})
}

func TestRangeStream(t *testing.T) {
	s := start(t)
	check(t, s, alphabet)
	check(t, s, []step{
		{name: "one key", call: "RangeStream", req: `key:"b"`, want: `@11 kvs=[b=9/3.7.2] count=1`},
		{name: "a missing key", call: "RangeStream", req: `key:"bb"`, want: `@11`},
		{name: "range", call: "RangeStream", req: `key:"b" range_end:"d"`, want: `@11 kvs=[b=9/3.7.2 c=3/9.9.1] count=2`},
		{name: "ascending by key is the default", call: "RangeStream", req: `key:"b" range_end:"d" sort_order:ASCEND`, want: `@11 kvs=[b=9/3.7.2 c=3/9.9.1] count=2`},
		{name: "limit", call: "RangeStream", req: `key:"a" range_end:"z" limit:2`, want: `@11 kvs=[a=5/2.2.1 b=9/3.7.2] more count=8`},
		{name: "past revision", call: "RangeStream", req: `key:"a" range_end:"z" revision:3`, want: `@11 kvs=[a=5/2.2.1 b=4/3.3.1] count=2`},
		{name: "serializable", call: "RangeStream", req: `key:"a" serializable:true`, want: `@11 kvs=[a=5/2.2.1] count=1`},
		{name: "keys only", call: "RangeStream", req: `key:"h" keys_only:true`, want: `@11 kvs=[h=/11.11.1] count=1`},
		{name: "count only", call: "RangeStream", req: `key:"a" range_end:"z" count_only:true limit:3`, want: `@11 count=8`},
		{name: "count only in the past", call: "RangeStream", req: `key:"a" range_end:"z" count_only:true revision:3`, want: `@11 count=2`},
		{name: "no key", call: "RangeStream", req: ``, want: `InvalidArgument: etcdserver: key is not provided`},
		{name: "unknown order", call: "RangeStream", req: `key:"a" sort_order:3`, want: `InvalidArgument: etcdserver: invalid sort option`},
		{name: "descending", call: "RangeStream", req: `key:"a" sort_order:DESCEND`, want: `Unimplemented: RangeStream does not support custom sort orders`},
		{name: "another target", call: "RangeStream", req: `key:"a" sort_order:ASCEND sort_target:MOD`, want: `Unimplemented: RangeStream does not support custom sort orders`},
		{name: "order before filter", call: "RangeStream", req: `key:"a" sort_order:DESCEND min_mod_revision:1`, want: `Unimplemented: RangeStream does not support custom sort orders`},
		{name: "min mod", call: "RangeStream", req: `key:"a" min_mod_revision:1`, want: `Unimplemented: RangeStream does not support revision filters`},
		{name: "max mod", call: "RangeStream", req: `key:"a" max_mod_revision:1`, want: `Unimplemented: RangeStream does not support revision filters`},
		{name: "min create", call: "RangeStream", req: `key:"a" min_create_revision:1`, want: `Unimplemented: RangeStream does not support revision filters`},
		{name: "max create", call: "RangeStream", req: `key:"a" max_create_revision:1`, want: `Unimplemented: RangeStream does not support revision filters`},
		{name: "future revision", call: "RangeStream", req: `key:"a" revision:12`, want: `OutOfRange: etcdserver: mvcc: required revision is a future revision`},
		{call: "Compact", req: `revision:5 physical:true`, want: `@11`},
		{name: "compacted revision", call: "RangeStream", req: `key:"a" revision:4`, want: `OutOfRange: etcdserver: mvcc: required revision has been compacted`},
		{name: "the compact revision itself", call: "RangeStream", req: `key:"a" range_end:"c" revision:5`, want: `@11 kvs=[a=5/2.2.1 b=4/3.3.1] count=2`},
	})
}

// TestRangeStreamChunks: a long range comes in several messages, of which only
// the last has a header, and joined they are the answer of Range.
func TestRangeStreamChunks(t *testing.T) {
	s := start(t)
	for i := range 40 {
		check(t, s, []step{{call: "Put", req: fmt.Sprintf(`key:"k%02d" value:"%d"`, i, i), want: fmt.Sprintf("@%d", i+2)}})
	}
	for _, row := range []struct{ req, tail string }{
		{`key:"k" range_end:"l"`, "count=40"},
		{`key:"k" range_end:"l" limit:35`, "more count=40"},
		{`key:"k" range_end:"l" limit:40`, "count=40"},
		{`key:"k" range_end:"l" revision:31`, "count=30"},
		{`key:"k" range_end:"l" keys_only:true`, "count=40"},
	} {
		chunks := strings.Split(s.call("RangeStream", row.req), " | ")
		if len(chunks) < 2 {
			t.Errorf("%s: the answer came in one message", row.req)
		}
		var joined []string
		for i, chunk := range chunks {
			head, kvs, _ := strings.Cut(chunk, "kvs=[")
			kvs, tail, _ := strings.Cut(kvs, "]")
			joined = append(joined, kvs)
			if last := i == len(chunks)-1; last && (head != "@41 " || tail != " "+row.tail) || !last && head+tail != "" {
				t.Errorf("%s: chunk %d of %d is %s", row.req, i, len(chunks), chunk)
			}
		}
		got := "@41 kvs=[" + strings.Join(joined, " ") + "] " + row.tail
		if want := s.call("Range", row.req); got != want {
			t.Errorf("%s\n got %s\nwant %s", row.req, got, want)
		}
	}
}
