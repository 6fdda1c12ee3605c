package contract

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

func TestLockService(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{call: "LeaseGrant", req: `ID:161 TTL:5000`, want: `@1 ID=161 TTL=5000`},
		{call: "LeaseGrant", req: `ID:162 TTL:5000`, want: `@1 ID=162 TTL=5000`},
		{name: "the key is the name and the lease in hex", call: "Lock", req: `name:"l" lease:161`, want: `@2 key=l/a1`},
		{name: "an empty key on the lease", call: "Range", req: `key:"l/" range_end:"l0"`, want: `@2 kvs=[l/a1=/2.2.1L161] count=1`},
		{name: "once more is no new lock", call: "Lock", req: `name:"l" lease:161`, want: `@2 key=l/a1`},
		{name: "another name", call: "Lock", req: `name:"m" lease:161`, want: `@3 key=m/a1`},
		{name: "no name", call: "Lock", req: `lease:161`, want: `@4 key=/a1`},
		{name: "unknown lease", call: "Lock", req: `name:"n" lease:99`, want: `Unknown: etcdserver: requested lease not found`},
		{name: "unlock", call: "Unlock", req: `key:"m/a1"`, want: `@5`},
		{name: "unlock what is not locked", call: "Unlock", req: `key:"m/a1"`, want: `@5`},
		{name: "unlock nothing", call: "Unlock", req: ``, want: `Unknown: etcdserver: key is not provided`},
	})

	// A second owner waits for the first, in the order they came.
	got := make(chan string, 1)
	go func() { got <- s.call("Lock", `name:"l" lease:162`) }()
	select {
	case answer := <-got:
		t.Fatalf("two owners: %s", answer)
	case <-time.After(300 * time.Millisecond):
	}
	check(t, s, []step{
		{name: "who waits has a key as well", call: "Range", req: `key:"l/" range_end:"l0" keys_only:true`, want: `@6 kvs=[l/a1=/2.2.1 l/a2=/6.6.1] count=2`},
		{call: "Unlock", req: `key:"l/a1"`, want: `@7`},
	})
	if answer := <-got; answer != "@7 key=l/a2" {
		t.Errorf("the second owner got %s", answer)
	}

	// Without a lease the server makes one of 60 s.
	locked, err := v3lockpb.NewLockClient(s.conn).Lock(s.context(), &v3lockpb.LockRequest{Name: []byte("o")})
	must(t, err)
	var id int64
	_, err = fmt.Sscanf(string(locked.Key), "o/%x", &id)
	must(t, err)
	check(t, s, []step{{call: "LeaseTimeToLive", req: fmt.Sprintf("ID:%d keys:true", id),
		want: fmt.Sprintf("@8 ID=%d TTL=* grantedTTL=60 keys=[%s]", id, locked.Key)}})
}

func TestElectionService(t *testing.T) {
	s := start(t)
	check(t, s, []step{
		{call: "LeaseGrant", req: `ID:161 TTL:5000`, want: `@1 ID=161 TTL=5000`},
		{call: "LeaseGrant", req: `ID:162 TTL:5000`, want: `@1 ID=162 TTL=5000`},
		{name: "nobody leads", call: "Leader", req: `name:"e"`, want: `Unknown: election: no leader`},
		{name: "proclaim without leader", call: "Proclaim", req: `value:"x"`, want: `Unknown: "leader" field must be provided`},
		{name: "resign without leader", call: "Resign", req: ``, want: `Unknown: "leader" field must be provided`},
		{name: "unknown lease", call: "Campaign", req: `name:"e" lease:99 value:"x"`, want: `Unknown: etcdserver: requested lease not found`},
		{name: "campaign", call: "Campaign", req: `name:"e" lease:161 value:"x"`, want: `@2 leader=name=e key=e/a1 rev=2 lease=161`},
		{name: "leader", call: "Leader", req: `name:"e"`, want: `@2 kv=e/a1=x/2.2.1L161`},
		{name: "campaign again", call: "Campaign", req: `name:"e" lease:161 value:"x"`, want: `@2 leader=name=e key=e/a1 rev=2 lease=161`},
		{name: "campaign again with another value", call: "Campaign", req: `name:"e" lease:161 value:"y"`, want: `@* leader=name=e key=e/a1 rev=2 lease=161`},
		{name: "which is proclaimed", call: "Leader", req: `name:"e"`, want: `@3 kv=e/a1=y/2.3.2L161`},
		{name: "proclaim", call: "Proclaim", req: `leader{name:"e" key:"e/a1" rev:2 lease:161} value:"z"`, want: `@4`},
		{name: "proclaim under another revision", call: "Proclaim", req: `leader{name:"e" key:"e/a1" rev:3 lease:161} value:"z"`, want: `Unknown: election: not leader`},
		{call: "Leader", req: `name:"e"`, want: `@4 kv=e/a1=z/2.4.3L161`},
	})

	observed, err := v3electionpb.NewElectionClient(s.conn).Observe(s.context(), &v3electionpb.LeaderRequest{Name: []byte("e")})
	must(t, err)
	next := func(want string) {
		t.Helper()
		answer, err := observed.Recv()
		if got := s.outcome(answer, err); !matches(got, want) {
			t.Errorf("observed %s, want %s", got, want)
		}
	}
	next("@4 kv=e/a1=z/2.4.3L161")
	check(t, s, []step{{call: "Proclaim", req: `leader{name:"e" key:"e/a1" rev:2 lease:161} value:"w"`, want: `@5`}})
	next("@5 kv=e/a1=w/2.5.4L161")

	got := make(chan string, 1)
	go func() { got <- s.call("Campaign", `name:"e" lease:162 value:"q"`) }()
	select {
	case answer := <-got:
		t.Fatalf("two leaders: %s", answer)
	case <-time.After(300 * time.Millisecond):
	}
	check(t, s, []step{
		{name: "resign", call: "Resign", req: `leader{name:"e" key:"e/a1" rev:2 lease:161}`, want: `@7`},
		{name: "resign twice", call: "Resign", req: `leader{name:"e" key:"e/a1" rev:2 lease:161}`, want: `@7`},
		{name: "proclaim after that", call: "Proclaim", req: `leader{name:"e" key:"e/a1" rev:2 lease:161} value:"z"`, want: `Unknown: election: not leader`},
	})
	if answer := <-got; answer != "@6 leader=name=e key=e/a2 rev=6 lease=162" {
		t.Errorf("the second leader got %s", answer)
	}
	next("@* kv=e/a2=q/6.6.1L162")
}

func TestMutex(t *testing.T) {
	s := start(t)
	const owners, rounds = 4, 5
	var inside, total int
	var group sync.WaitGroup
	for range owners {
		session, err := concurrency.NewSession(s.client(), concurrency.WithTTL(10))
		must(t, err)
		group.Go(func() {
			for range rounds {
				mutex := concurrency.NewMutex(session, "/lock")
				if err := mutex.Lock(s.context()); err != nil {
					t.Error(err)
					return
				}
				inside++
				if inside != 1 {
					t.Error("two owners")
				}
				total++
				inside--
				if err := mutex.Unlock(s.context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if total != owners*rounds {
		t.Errorf("%d rounds, want %d", total, owners*rounds)
	}

	first, err := concurrency.NewSession(s.client())
	must(t, err)
	second, err := concurrency.NewSession(s.client())
	must(t, err)
	must(t, concurrency.NewMutex(first, "/try").TryLock(s.context()))
	if err := concurrency.NewMutex(second, "/try").TryLock(s.context()); err != concurrency.ErrLocked {
		t.Errorf("TryLock on a lock that is held: %v", err)
	}
	must(t, first.Close()) // Revokes the lease, and with it the lock.
	must(t, concurrency.NewMutex(second, "/try").TryLock(s.context()))
}

func TestElection(t *testing.T) {
	s := start(t)
	first, err := concurrency.NewSession(s.client())
	must(t, err)
	second, err := concurrency.NewSession(s.client())
	must(t, err)
	one, two := concurrency.NewElection(first, "/e"), concurrency.NewElection(second, "/e")
	must(t, one.Campaign(s.context(), "one"))
	observed := one.Observe(s.context())
	next := func(want string) {
		t.Helper()
		select {
		case answer := <-observed:
			if got := string(answer.Kvs[0].Value); got != want {
				t.Errorf("observed %s, want %s", got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("nothing observed, want %s", want)
		}
	}
	next("one")
	won := make(chan error, 1)
	go func() { won <- two.Campaign(s.context(), "two") }()
	must(t, one.Proclaim(s.context(), "uno"))
	next("uno")
	must(t, one.Resign(s.context()))
	must(t, <-won)
	next("two")
	leader, err := one.Leader(s.context())
	must(t, err)
	if got := string(leader.Kvs[0].Value); got != "two" {
		t.Errorf("the leader is %s", got)
	}
}

// TestSTM: transfers between accounts keep the sum at each isolation level.
func TestSTM(t *testing.T) {
	s := start(t)
	for _, level := range []concurrency.Isolation{
		concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
	} {
		prefix := fmt.Sprintf("%d/", level)
		client := s.client()
		for i := range 4 {
			_, err := client.Put(s.context(), fmt.Sprint(prefix, i), strings.Repeat("x", 10))
			must(t, err)
		}
		var group sync.WaitGroup
		for worker := range 3 {
			client := s.client()
			group.Go(func() {
				for i := range 10 {
					from, to := fmt.Sprint(prefix, (worker+i)%4), fmt.Sprint(prefix, (worker+2*i+1)%4)
					if from == to {
						continue
					}
					_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
						a, b := stm.Get(from), stm.Get(to)
						if len(a) > 0 {
							stm.Put(from, a[1:])
							stm.Put(to, b+"x")
						}
						return nil
					}, concurrency.WithIsolation(level))
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		accounts, err := client.Get(context.Background(), prefix, clientv3.WithPrefix())
		must(t, err)
		sum := 0
		for _, kv := range accounts.Kvs {
			sum += len(kv.Value)
		}
		if sum != 40 {
			t.Errorf("isolation %d: the sum is %d", level, sum)
		}
	}
}
