// Package judged runs the server that is being judged as a process of its own and knows nothing of
// it but its command line, the line it logs when it serves, and its signals.
package judged

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	name        = "judged"
	readyLine   = "ready to serve client requests"
	readyWithin = 30 * time.Second
	stopWithin  = 10 * time.Second
)

// Binary names the server to judge: RINGBOLT_BIN, or with JUDGE=etcd the real etcd in ETCD_BIN.
func Binary() (string, error) {
	variable, fallback := "RINGBOLT_BIN", "../../../target/release/ringbolt"
	switch judge := os.Getenv("JUDGE"); judge {
	case "", "ringbolt":
	case "etcd":
		variable, fallback = "ETCD_BIN", "etcd"
	default:
		return "", fmt.Errorf("JUDGE=%q: only etcd and ringbolt can be judged", judge)
	}
	path := os.Getenv(variable)
	if path == "" {
		path = fallback
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("no server to judge, set %s: %w", variable, err)
	}
	return filepath.Abs(found)
}

// Server is one server with its folder and its ports; both stay the same over restarts.
type Server struct {
	binary   string
	dir      string
	endpoint string
	flags    []string
	exited   chan error // of the process that runs now; nil if none does
	process  *os.Process
}

// New picks free ports for a server that keeps its data and its log in dir. It starts nothing.
func New(dir string, flags ...string) (*Server, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	client, peer := "http://"+addresses[0], "http://"+addresses[1]
	return &Server{
		binary:   binary,
		dir:      dir,
		endpoint: client,
		flags: append([]string{
			"--name=" + name,
			"--data-dir=" + filepath.Join(dir, "data"),
			"--listen-client-urls=" + client,
			"--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer,
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + name + "=" + peer,
		}, flags...),
	}, nil
}

// Endpoint is the client URL.
func (s *Server) Endpoint() string { return s.endpoint }

// LogPath is the file with all that the server wrote to stderr, over all its starts.
func (s *Server) LogPath() string { return filepath.Join(s.dir, "server.log") }

// Start starts the server and returns once it says that it serves.
func (s *Server) Start() error {
	if s.exited != nil {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.binary, s.flags...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	started, exited := make(chan error, 1), make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		defer log.Close()
		// A child whose parent's thread ends gets its Pdeathsig, so this thread stays with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		copyLog(log, stderr, ready)
		exited <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.exited = cmd.Process, exited
	select {
	case <-ready:
		return nil
	case err := <-exited:
		s.exited = nil
		return fmt.Errorf("the server ended before it served: %v\n%s", err, s.LogTail())
	case <-time.After(readyWithin):
		return errors.Join(
			fmt.Errorf("no line %q within %v\n%s", readyLine, readyWithin, s.LogTail()), s.Kill())
	}
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() error {
	if s.exited == nil {
		return nil
	}
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.exited
	s.exited = nil
	return nil
}

// Stop ends the server with SIGTERM. A server that ended by itself before, or that does not end
// soon, is an error.
func (s *Server) Stop() error {
	if s.exited == nil {
		return nil
	}
	select {
	case err := <-s.exited:
		s.exited = nil
		return fmt.Errorf("the server ended by itself: %v\n%s", err, s.LogTail())
	default:
	}
	if err := s.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		s.exited = nil
		return nil
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("the server still ran %v after SIGTERM", stopWithin), s.Kill())
	}
}

// LogTail is the end of the server's log.
func (s *Server) LogTail() string {
	const bytesMax = 4 << 10
	log, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-bytesMax):])
}

// copyLog copies the server's log until it ends and closes ready at the first ready line.
func copyLog(log io.Writer, stderr io.Reader, ready chan<- struct{}) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		log.Write(line)
		var entry struct{ Msg string }
		if ready != nil && json.Unmarshal(line, &entry) == nil && entry.Msg == readyLine {
			close(ready)
			ready = nil
		}
		if err != nil {
			return
		}
	}
}

// freeAddresses finds ports that nobody listens on. Somebody else may take one before it is used;
// the server then fails to start, loudly.
func freeAddresses(count int) ([]string, error) {
	var addresses []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
