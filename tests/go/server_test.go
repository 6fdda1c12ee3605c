package contract

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// judge names the server under test: "ringbolt" or "etcd".
var judge = "ringbolt"

// executable is the server that every test starts.
var executable string

func TestMain(m *testing.M) {
	flag.Parse()
	executable = envOr("RINGBOLT_BIN", "../../target/release/ringbolt")
	if os.Getenv("JUDGE") == "etcd" {
		judge, executable = "etcd", envOr("ETCD_BIN", "bin/etcd")
	}
	path, err := filepath.Abs(executable)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no server to judge:", err)
		os.Exit(1)
	}
	executable = path
	// Most tests wait for a server rather than compute.
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(flag.Lookup("test.parallel").DefValue) {
		_ = flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// server is one running process with a data directory of its own.
type server struct {
	t       testing.TB
	path    string // the binary
	name    string
	cluster string // the value of --initial-cluster
	dir     string
	address string // host:port of the client endpoint
	peer    string // host:port of the peer endpoint
	flags   []string
	token   string // sent with every call, if not empty

	process *exec.Cmd
	exited  chan struct{}
	log     *logReader
	stdout  *bytes.Buffer

	conn   *grpc.ClientConn
	member *pb.Member // as MemberList gave it
	header *pb.ResponseHeader
}

// start runs a fresh server with the extra flags and waits until it serves. A
// flag "env:NAME=value" is a variable of its otherwise empty environment.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	t.Parallel()
	return startBinary(t, executable, flags...)
}

// startBinary is start for another binary than the judged one.
func startBinary(t *testing.T, path string, flags ...string) *server {
	t.Helper()
	s := newServer(t, path, "judged", flags)
	s.cluster = "judged=http://" + s.peer
	s.run()
	t.Cleanup(s.kill)
	return s
}

func newServer(t *testing.T, path, name string, flags []string) *server {
	t.Helper()
	return &server{
		t: t, path: path, name: name, dir: t.TempDir(), flags: flags, stdout: &bytes.Buffer{},
		address: freeAddress(t), peer: freeAddress(t),
	}
}

// run starts the process over the data directory, which may hold data.
func (s *server) run() {
	s.t.Helper()
	s.launch()
	s.ready()
}

// launch starts the process without waiting for it.
func (s *server) launch() {
	s.t.Helper()
	s.process = exec.Command(s.path, s.arguments()...)
	s.process.Dir = s.dir
	s.process.Env = []string{}
	for _, flag := range s.flags {
		if variable, ok := strings.CutPrefix(flag, "env:"); ok {
			s.process.Env = append(s.process.Env, variable)
		}
	}
	s.process.Stdout = s.stdout
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.process.StderrPipe()
	must(s.t, err)
	must(s.t, s.process.Start())
	s.log = &logReader{ready: make(chan struct{})}
	s.exited = make(chan struct{})
	go func() {
		s.log.read(stderr)
		_ = s.process.Wait()
		close(s.exited)
	}()
}

// ready waits until the process serves.
func (s *server) ready() {
	s.t.Helper()
	select {
	case <-s.log.ready:
	case <-s.exited:
		s.t.Fatalf("the server ended before it served:\n%s", s.log.text())
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server did not serve within 30 s:\n%s", s.log.text())
	}

	s.conn = dial(s.t, s.address)
	status, err := pb.NewMaintenanceClient(s.conn).Status(s.context(), &pb.StatusRequest{})
	must(s.t, err)
	s.header = status.Header
	s.member = &pb.Member{ID: s.header.MemberId, IsLearner: status.IsLearner}
	members, err := pb.NewClusterClient(s.conn).MemberList(s.context(), &pb.MemberListRequest{})
	if err != nil && s.member.IsLearner {
		return // A learner does not tell.
	}
	must(s.t, err)
	for _, member := range members.Members {
		if member.ID == members.Header.MemberId {
			s.member = member
		}
	}
}

// kill ends the process at once, as a power cut would.
func (s *server) kill() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	_ = s.process.Process.Kill()
	<-s.exited
	if lines := s.log.strange(); len(lines) != 0 {
		s.t.Errorf("lines on stderr that are no JSON log lines: %q", lines)
	}
	if s.stdout.Len() != 0 {
		s.t.Errorf("stdout should stay empty: %q", s.stdout.String())
	}
}

func (s *server) arguments() []string {
	client, peer := "http://"+s.address, "http://"+s.peer
	arguments := []string{
		"--name=" + s.name,
		"--data-dir=" + filepath.Join(s.dir, "data"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + s.cluster,
	}
	for _, flag := range s.flags {
		if !strings.HasPrefix(flag, "env:") {
			arguments = append(arguments, flag)
		}
	}
	return arguments
}

// terminate asks the process to end and waits for it.
func (s *server) terminate(limit time.Duration) {
	s.t.Helper()
	_ = s.conn.Close()
	must(s.t, s.process.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(limit):
		s.t.Errorf("the server still runs %v after SIGTERM", limit)
	}
}

// context bounds one call.
func (s *server) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	s.t.Cleanup(cancel)
	if s.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", s.token)
	}
	return ctx
}

// as gives the same server with a user's token on every call.
func (s *server) as(token string) *server {
	other := *s
	other.token = token
	return &other
}

// settle waits until the versions of cluster and storage are decided, which
// etcd does a moment after it began to serve.
func (s *server) settle() {
	s.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, err := pb.NewMaintenanceClient(s.conn).Status(s.context(), &pb.StatusRequest{})
		must(s.t, err)
		if status.StorageVersion == clusterVersion {
			return
		}
	}
	s.t.Errorf("the storage version is not %s after 15 s", clusterVersion)
}

// client gives an official client of this server.
func (s *server) client() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(s.clientConfig())
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *server) clientConfig() clientv3.Config {
	return clientv3.Config{Endpoints: []string{s.address}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()}
}

// dial gives a bare connection, without the retries of the official client.
func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	must(t, err)
	return conn
}

var (
	portsMutex sync.Mutex
	portsGiven = map[string]bool{}
)

// freeAddress gives a loopback address that no other test was given.
func freeAddress(t testing.TB) string {
	t.Helper()
	portsMutex.Lock()
	defer portsMutex.Unlock()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address := l.Addr().String()
		must(t, l.Close())
		if !portsGiven[address] {
			portsGiven[address] = true
			return address
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logReader keeps what the server writes to stderr.
type logReader struct {
	mutex sync.Mutex
	lines []string
	once  sync.Once
	ready chan struct{} // closed by the line that says the server serves
}

type logLine struct {
	Level string `json:"level"`
	Time  string `json:"ts"`
	Msg   string `json:"msg"`
}

func (l *logReader) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		l.mutex.Lock()
		l.lines = append(l.lines, scanner.Text())
		l.mutex.Unlock()
		var line logLine
		if json.Unmarshal(scanner.Bytes(), &line) == nil && line.Msg == "ready to serve client requests" {
			l.once.Do(func() { close(l.ready) })
		}
	}
}

func (l *logReader) text() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return strings.Join(l.lines, "\n")
}

// strange gives the lines that are not JSON objects with level, ts and msg.
func (l *logReader) strange() (lines []string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, text := range l.lines {
		var line logLine
		if json.Unmarshal([]byte(text), &line) != nil || line.Level == "" || line.Time == "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// atLevel gives the messages logged at a level.
func (l *logReader) atLevel(level string) (messages []string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, text := range l.lines {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && line.Level == level {
			messages = append(messages, line.Msg)
		}
	}
	return messages
}
