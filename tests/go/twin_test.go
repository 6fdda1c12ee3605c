package contract

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTwins gives the judged server and a real etcd the same random requests;
// every answer, and at the end every event, must be the same. SEED=n replays
// one sequence, SEEDS=a..b runs many, STEPS sets their length.
func TestTwins(t *testing.T) {
	reference, err := filepath.Abs(envOr("ETCD_BIN", "bin/etcd"))
	must(t, err)
	if _, err := os.Stat(reference); err != nil {
		t.Skip("there is no etcd to compare with: ", err)
	}
	first, last := 1, 3
	if seed := os.Getenv("SEED"); seed != "" {
		first, err = strconv.Atoi(seed)
		must(t, err)
		last = first
	} else if seeds := os.Getenv("SEEDS"); seeds != "" {
		_, err := fmt.Sscanf(seeds, "%d..%d", &first, &last)
		must(t, err)
	}
	steps, err := strconv.Atoi(envOr("STEPS", "1000"))
	must(t, err)
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("SEED=%d", seed), func(t *testing.T) {
			judged, twin := start(t), startBinary(t, reference)
			compareTwins(t, judged, twin, &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 0))}, steps)
		})
	}
}

func compareTwins(t *testing.T, judged, twin *server, g *generator, steps int) {
	t.Helper()
	// Two watchers see all of it live, a third looks back at the end.
	streams := []*watchStream{judged.watch(), twin.watch()}
	const whole = `key:"\000" range_end:"\000"`
	for _, w := range streams {
		w.send(`create_request{` + whole + ` watch_id:1 prev_kv:true}`)
		w.send(`create_request{key:"b" range_end:"d" watch_id:2 filters:NODELETE}`)
		for id := range int64(2) {
			if got := w.next(id + 1); got != "@1 created" {
				t.Fatal(got)
			}
		}
	}
	var trail []string
	g.revision = 1
	for i := range steps {
		call, req := g.next()
		want, got := twin.call(call, req), judged.call(call, req)
		trail = append(trail, call+" "+req+"\n   "+want)
		if essence(got) != essence(want) {
			t.Fatalf("step %d:\n%s\n\n got %s", i, strings.Join(trail[max(0, len(trail)-8):], "\n"), got)
		}
		if match := headerRevision.FindStringSubmatch(want); match != nil {
			g.revision, _ = strconv.ParseInt(match[1], 10, 64)
		}
		if call == "Compact" && strings.HasPrefix(want, "@") {
			g.compacted, _ = strconv.ParseInt(revisionField.FindStringSubmatch(req)[1], 10, 64)
		}
	}
	for _, w := range streams {
		w.send(fmt.Sprintf(`create_request{%s watch_id:3 prev_kv:true start_revision:%d}`, whole, max(g.compacted, 1)))
		time.Sleep(500 * time.Millisecond)
	}
	for id := range int64(3) {
		for {
			want, got := streams[1].ready(id+1), streams[0].ready(id+1)
			if got != want {
				t.Fatalf("watcher %d\n got %s\nwant %s", id+1, got, want)
			}
			if want == "" {
				break
			}
		}
	}
	for _, w := range streams {
		w.none(t)
	}
}

// ready gives the next thing that has come for a watcher, or nothing.
func (w *watchStream) ready(id int64) string {
	select {
	case text := <-w.queue(id):
		return text
	default:
		return ""
	}
}

var (
	headerRevision = regexp.MustCompile(`^@(\d+)`)
	revisionField  = regexp.MustCompile(`revision:(\d+)`)
	ttlField       = regexp.MustCompile(` TTL=\d+ `)
	hiddenDeletion = regexp.MustCompile(`delete_range\{key:"[^"]*" range_end:"\\000"`)
	keysField      = regexp.MustCompile(` keys=\[(.*)\]`)
)

// essence takes out of an answer what two right servers may differ in.
func essence(answer string) string {
	answer = ttlField.ReplaceAllString(answer, " TTL=* ")
	if match := keysField.FindStringSubmatch(answer); match != nil {
		keys := strings.Fields(match[1])
		slices.Sort(keys)
		answer = keysField.ReplaceAllString(answer, " keys="+strings.Join(keys, ","))
	}
	return answer
}

// generator makes requests over few keys, so that they often meet. There are
// at most twelve keys: that many are sorted in one way only, ties and all.
type generator struct {
	*rand.Rand
	revision  int64 // the current one, as the last answer had it
	compacted int64
}

var twinKeys = []string{`a`, `b`, `ba`, `b\000`, `c`, `cc`, `d`, `e`, `f`, `\377`}

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g *generator) key() string { return twinKeys[g.IntN(len(twinKeys))] }

func (g *generator) value() string {
	return []string{``, `0`, `1`, `2`, `22`, `3`, `\000`, `\377`}[g.IntN(8)]
}

func (g *generator) next() (call, req string) {
	switch n := g.IntN(100); {
	case n < 25:
		return "Range", g.rangeRequest()
	case n < 30:
		return "RangeStream", g.streamRequest()
	case n < 52:
		return "Put", g.put()
	case n < 62:
		return "DeleteRange", g.deleteRange()
	case n < 86:
		return "Txn", g.txn(2)
	case n < 88:
		return "Compact", fmt.Sprintf("physical:true revision:%d", max(1, g.revision-int64(g.IntN(25))+2))
	case n < 91:
		return "HashKV", fmt.Sprintf("revision:%d", g.hashRevision())
	case n < 95:
		return "LeaseGrant", fmt.Sprintf("ID:%d TTL:%d", 7+g.IntN(3), 3000+1000*g.IntN(3))
	case n < 97:
		return "LeaseRevoke", fmt.Sprintf("ID:%d", 7+g.IntN(3))
	case n < 99:
		return "LeaseTimeToLive", fmt.Sprintf("ID:%d keys:true", 7+g.IntN(3))
	default:
		return "LeaseKeepAlive", fmt.Sprintf("ID:%d", 7+g.IntN(3))
	}
}

// span gives a key and often an end.
func (g *generator) span() string {
	switch g.IntN(6) {
	case 0, 1:
		return fmt.Sprintf(`key:"%s"`, g.key())
	case 2:
		return fmt.Sprintf(`key:"%s" range_end:"\000"`, g.key())
	case 3:
		return `key:"\000" range_end:"\000"`
	default:
		return fmt.Sprintf(`key:"%s" range_end:"%s"`, g.key(), g.key())
	}
}

func (g *generator) pastRevision() int64 {
	if g.oneIn(3) {
		return 0
	}
	return g.revision - int64(g.IntN(30)) + 2
}

// hashRevision keeps clear of compact revisions, old ones too: for those etcd answers what it
// noted when it compacted, and forgets at its next start.
func (g *generator) hashRevision() int64 {
	if revision := g.pastRevision(); revision > g.compacted || revision <= 0 {
		return revision
	}
	return 0
}

// streamRequest keeps clear of a target without an order: etcd sorts each chunk by it and then
// goes on behind the last key shown, so that keys are left out or shown twice.
func (g *generator) streamRequest() string {
	text := g.rangeRequest()
	ordered := strings.Contains(text, "sort_order:1") || strings.Contains(text, "sort_order:2")
	if strings.Contains(text, "sort_target") && !ordered {
		return g.streamRequest()
	}
	return text
}

func (g *generator) rangeRequest() string {
	fields := []string{g.span()}
	maybe := func(n int, format string, values ...any) {
		if g.oneIn(n) {
			fields = append(fields, fmt.Sprintf(format, values...))
		}
	}
	maybe(3, "limit:%d", g.IntN(6)-1)
	maybe(2, "revision:%d", g.pastRevision())
	maybe(3, "sort_order:%d", g.IntN(3))
	maybe(3, "sort_target:%d", g.IntN(5))
	maybe(4, "keys_only:true")
	maybe(8, "count_only:true")
	maybe(6, "serializable:true")
	for _, filter := range []string{"min_mod", "max_mod", "min_create", "max_create"} {
		maybe(12, "%s_revision:%d", filter, g.pastRevision())
	}
	maybe(60, "sort_target:7")
	text := strings.Join(fields, " ")
	if strings.Count(text, "sort_target") > 1 {
		return g.rangeRequest()
	}
	return text
}

func (g *generator) put() string {
	text := fmt.Sprintf(`key:"%s"`, g.key())
	value, lease := fmt.Sprintf(` value:"%s"`, g.value()), ""
	if g.oneIn(4) {
		lease = fmt.Sprintf(" lease:%d", 7+g.IntN(3))
	}
	if g.oneIn(3) {
		text += " prev_kv:true"
	}
	// Ignoring what is given is an error; seldom make it.
	if g.oneIn(12) {
		text += " ignore_value:true"
		if !g.oneIn(10) {
			value = ""
		}
	}
	if g.oneIn(12) {
		text += " ignore_lease:true"
		if !g.oneIn(10) {
			lease = ""
		}
	}
	return text + value + lease
}

func (g *generator) deleteRange() string {
	text := g.span()
	if !strings.Contains(text, "range_end") || g.oneIn(3) { // Do not empty the store all the time.
		if g.oneIn(2) {
			text += " prev_kv:true"
		}
		return text
	}
	return fmt.Sprintf(`key:"%s"`, g.key())
}

func (g *generator) txn(depth int) string {
	var text strings.Builder
	for range g.IntN(3) {
		fmt.Fprintf(&text, "compare{%s result:%d %s} ", g.span(), g.IntN(4), g.target())
	}
	for _, branch := range []string{"success", "failure"} {
		for range g.IntN(4) {
			fmt.Fprintf(&text, "%s{%s} ", branch, g.op(depth))
		}
	}
	// A deletion from a key on hides from the check for duplicates; a later put
	// that keeps what was deleted ends an etcd 3.7.3 for good.
	if strings.Contains(text.String(), "ignore_") && hiddenDeletion.MatchString(text.String()) {
		return g.txn(depth)
	}
	return text.String()
}

func (g *generator) target() string {
	recent := g.revision - int64(g.IntN(8))
	return []string{
		fmt.Sprintf("target:VERSION version:%d", g.IntN(4)),
		fmt.Sprintf("target:CREATE create_revision:%d", recent),
		fmt.Sprintf("target:MOD mod_revision:%d", recent),
		fmt.Sprintf(`target:VALUE value:"%s"`, g.value()),
		fmt.Sprintf("target:LEASE lease:%d", g.IntN(2)*(7+g.IntN(3))),
	}[g.IntN(5)]
}

func (g *generator) op(depth int) string {
	switch n := g.IntN(40); {
	case n < 14:
		return "request_put{" + g.put() + "}"
	case n < 22:
		return "request_delete_range{" + g.deleteRange() + "}"
	case n < 31:
		return "request_range{" + g.rangeRequest() + "}"
	case n < 39 && depth > 0:
		return "request_txn{" + g.txn(depth-1) + "}"
	case n < 39 || !g.oneIn(8):
		return "request_range{" + g.span() + "}"
	default:
		return ""
	}
}
