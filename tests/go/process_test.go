package contract

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCommandLine: what a command line that starts no server answers.
func TestCommandLine(t *testing.T) {
	for _, row := range []struct {
		name   string
		args   []string
		env    []string
		exit   int
		stdout string // a part of it
		stderr string // a part of it
	}{
		{name: "version", args: []string{"--version"}, stdout: "etcd Version: " + release + "\n"},
		{name: "version with one dash", args: []string{"-version"}, stdout: "etcd Version: " + release + "\n"},
		{name: "version with a value", args: []string{"--version=true"}, stdout: "etcd Version: " + release + "\n"},
		{name: "help", args: []string{"--help"}},
		{name: "unknown flag", args: []string{"--no-such-flag=1"}, exit: 2, stderr: "flag provided but not defined: -no-such-flag"},
		{name: "a number that is none", args: []string{"--snapshot-count=x"}, exit: 2, stderr: `invalid value "x" for flag -snapshot-count: `},
		{name: "a duration that is none", args: []string{"--corrupt-check-time", "5"}, exit: 2, stderr: `invalid value "5" for flag -corrupt-check-time: `},
		{name: "a boolean that is none", args: []string{"--pre-vote=perhaps"}, exit: 2, stderr: `invalid boolean value "perhaps" for -pre-vote: `},
		{name: "a value outside its choices", args: []string{"--v2-deprecation=not-yet"}, exit: 2, stderr: `invalid value "not-yet" for flag -v2-deprecation: `},
		{name: "a word too many", args: []string{"serve"}, exit: 1, stderr: "is not a valid flag"},
		{name: "listen without advertise", args: []string{"--listen-client-urls=http://127.0.0.1:1"}, exit: 1,
			stderr: "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
		{name: "a name outside the cluster", args: []string{"--name=x", "--initial-cluster=y=http://127.0.0.1:2380",
			"--listen-peer-urls=http://127.0.0.1:0", "--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"}, exit: 1,
			stderr: `couldn't find local name \"x\" in the initial cluster configuration`},
		{name: "an election too soon", args: []string{"--election-timeout=400"}, exit: 1,
			stderr: "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
		{name: "an election too late", args: []string{"--election-timeout=60000"}, exit: 1,
			stderr: "--election-timeout[60000ms] is too long, and should be set less than 50000ms"},
		{name: "an unknown mode", args: []string{"--auto-compaction-mode=x"}, exit: 1, stderr: `unknown auto-compaction-mode \"x\"`},
		{name: "a flag and its variable", args: []string{"--name=x"}, env: []string{"ETCD_NAME=y"}, exit: 1,
			stderr: "conflicting environment variable"},
		{name: "a variable that is no number", env: []string{"ETCD_SNAPSHOT_COUNT=x"}, exit: 1, stderr: "ETCD_SNAPSHOT_COUNT"},
		{name: "the variable of the version is passed over", args: []string{"--version"}, env: []string{"ETCD_VERSION=9"}, stdout: "etcd Version: " + release + "\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			command := exec.Command(executable, row.args...)
			command.Dir, command.Env = t.TempDir(), row.env
			if command.Env == nil {
				command.Env = []string{}
			}
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			must(t, command.Start())
			timer := time.AfterFunc(10*time.Second, func() { _ = command.Process.Kill() })
			err := command.Wait()
			timer.Stop()
			var failed *exec.ExitError
			if err != nil && !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if got := command.ProcessState.ExitCode(); got != row.exit {
				t.Errorf("exit %d, want %d", got, row.exit)
			}
			if !strings.Contains(stdout.String(), row.stdout) || !strings.Contains(stderr.String(), row.stderr) {
				t.Errorf("stdout %q\nstderr %q", stdout.String(), stderr.String())
			}
		})
	}
}

// TestFlagForms: one dash or two, the value beside or behind, the last wins.
func TestFlagForms(t *testing.T) {
	s := start(t, "-max-txn-ops", "7", "--max-txn-ops=1", "--pre-vote", "-strict-reconfig-check=false", "--log-level", "warn", "--log-level=info")
	check(t, s, []step{
		{call: "Txn", req: `success{request_range{key:"a"}}`, want: `@1 succeeded responses=[range(~1)]`},
		{call: "Txn", req: `success{request_range{key:"a"}} success{request_range{key:"a"}}`, want: `InvalidArgument: etcdserver: too many operations in txn request`},
	})
}

// TestNotify: a supervisor is told once the server serves.
func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	start(t, "env:NOTIFY_SOCKET="+socket)
	must(t, listener.SetReadDeadline(time.Now().Add(10*time.Second)))
	message := make([]byte, 4096)
	n, err := listener.Read(message)
	must(t, err)
	if got := string(message[:n]); !strings.HasPrefix(got, "READY=1") {
		t.Errorf("the supervisor was told %q", got)
	}
}

// TestSecondProcess: a data directory belongs to one process at a time.
func TestSecondProcess(t *testing.T) {
	s := start(t)
	other := *s
	other.address, other.peer = freeAddress(t), freeAddress(t)
	command := exec.Command(executable, other.arguments()...)
	command.Env = []string{}
	must(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the second process ended as if all were well")
		}
	case <-time.After(1500 * time.Millisecond): // It may also wait for the first to end.
		_ = command.Process.Kill()
		<-ended
	}
	check(t, s, []step{{name: "the first goes on", call: "Put", req: `key:"a"`, want: `@2`}})
}

// TestRestart: what was acknowledged is there after the process was killed.
func TestRestart(t *testing.T) {
	s := start(t)
	check(t, s, alphabet)
	check(t, s, []step{
		{call: "LeaseGrant", req: `ID:8 TTL:6000`, want: `@11 ID=8 TTL=6000`},
		{call: "LeaseRevoke", req: `ID:8`, want: `@11`},
		{call: "DeleteRange", req: `key:"d"`, want: `@12 deleted=1`},
		{call: "Compact", req: `revision:5 physical:true`, want: `@12`},
		{call: "Alarm", req: `action:ACTIVATE memberID:5 alarm:NOSPACE`, want: `@12 alarms=[memberID=5 alarm=NOSPACE]`},
	})
	questions := []step{
		{call: "Range", req: `key:"a" range_end:"z"`},
		{call: "Range", req: `key:"a" range_end:"z" revision:5`},
		{call: "Range", req: `key:"a" range_end:"z" revision:4`},
		{call: "LeaseTimeToLive", req: `ID:8 keys:true`},
		{call: "LeaseLeases", req: ``},
		{call: "Alarm", req: ``},
		{call: "HashKV", req: ``},
		{call: "HashKV", req: `revision:9`},
		{call: "Put", req: `key:"no-space"`},
	}
	for i, q := range questions {
		questions[i].want = s.call(q.call, q.req)
	}
	before := s.member.String()
	s.kill()
	s.run()
	if after := s.member.String(); after != before {
		t.Errorf("the member is %s, was %s", after, before)
	}
	check(t, s, questions)
	check(t, s, []step{
		{call: "LeaseTimeToLive", req: `ID:7 keys:true`, want: `@12 ID=7 TTL=* grantedTTL=5000 keys=[h]`},
		{call: "Alarm", req: `action:DEACTIVATE memberID:5 alarm:NOSPACE`, want: `@12 alarms=[memberID=5 alarm=NOSPACE]`},
		{call: "Put", req: `key:"b" value:"3" prev_kv:true`, want: `@13 prev_kv=b=9/3.7.2`},
	})
	follow(t, s.watch(), []watchStep{
		{send: `create_request{key:"a" range_end:"z" start_revision:7 prev_kv:true}`, want: []string{"0 @13 created",
			"0 PUT b=9/3.7.2 was b=4/3.3.1", "0 DELETE c=/0.8.0 was c=3/4.4.1", "0 PUT c=3/9.9.1", "0 PUT f=0/10.10.1; PUT g=0/10.10.1",
			"0 PUT h=8/11.11.1L7", "0 DELETE d=/0.12.0 was d=2/5.5.1", "0 PUT b=3/3.13.3 was b=9/3.7.2"}},
	})
}

// TestProcess: what supervisors see of the process.
func TestProcess(t *testing.T) {
	s := start(t)
	check(t, s, []step{{call: "Put", req: `key:"a" value:"1"`, want: `@2`}})
	for _, name := range []string{"data/member", "data/member/wal", "data/member/snap"} {
		if found, err := filepath.Glob(filepath.Join(s.dir, name)); err != nil || len(found) != 1 {
			t.Errorf("there is no folder %s", name)
		}
	}
	for _, level := range []string{"error", "fatal", "panic", "dpanic"} {
		if got := s.log.atLevel(level); len(got) != 0 {
			t.Errorf("lines at level %s: %q", level, got)
		}
	}
	s.terminate(5 * time.Second)
	if text := s.log.text(); !strings.Contains(text, `"serving client traffic insecurely; this is strongly discouraged!"`) {
		t.Error("no line says how client traffic is served")
	}
	s.run()
	check(t, s, []step{{call: "Range", req: `key:"a"`, want: `@2 kvs=[a=1/2.2.1] count=1`}})
}
