package contract

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"
)

// TestRequestSize: a request may have max-request-bytes once it is wrapped
// for the log, a gRPC message 512 KiB more.
func TestRequestSize(t *testing.T) {
	const tooLarge = `InvalidArgument: etcdserver: request is too large`
	for _, limit := range []int{1_572_864, 100_000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			flags := []string{fmt.Sprintf("--max-request-bytes=%d", limit)}
			if limit == 1_572_864 {
				flags = nil // The default.
			}
			s := start(t, flags...)
			kv := pb.NewKVClient(s.conn)
			put := func(size int) string {
				answer, err := kv.Put(s.context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, size)})
				return s.outcome(answer, err)
			}
			receive := limit + 512<<10
			message := func(size int) *pb.PutRequest { // of exactly size bytes
				request := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, size)}
				for proto.Size(request) > size {
					request.Value = request.Value[1:]
				}
				return request
			}
			for _, row := range []struct {
				name      string
				got, want string
			}{
				{"well below", put(limit - 1000), "@2"},
				{"as large as the limit", put(limit), tooLarge},
				{"above", put(limit + 1000), tooLarge},
				{"nothing was written", s.call("Range", `key:"k" keys_only:true`), `@2 kvs=[k=/2.2.1] count=1`},
			} {
				if row.got != row.want {
					t.Errorf("%s:\n got %s\nwant %s", row.name, row.got, row.want)
				}
			}
			for size, want := range map[int]string{
				receive:     tooLarge,
				receive + 1: fmt.Sprintf("ResourceExhausted: grpc: received message larger than max (%d vs. %d)", receive+1, receive),
			} {
				answer, err := kv.Put(s.context(), message(size))
				if got := s.outcome(answer, err); got != want {
					t.Errorf("a message of %d bytes:\n got %s\nwant %s", size, got, want)
				}
			}
			big := &pb.DeleteRangeRequest{Key: make([]byte, limit)}
			answer, err := kv.DeleteRange(s.context(), big)
			if got := s.outcome(answer, err); got != tooLarge {
				t.Errorf("a large deletion: %s", got)
			}
			found, err := kv.Range(s.context(), &pb.RangeRequest{Key: make([]byte, limit)})
			if got := s.outcome(found, err); got != "@2" {
				t.Errorf("a range is not bound by it: %s", got)
			}
		})
	}
}

// TestAnswerSize: an answer may be larger than any request.
func TestAnswerSize(t *testing.T) {
	s := start(t)
	kv := pb.NewKVClient(s.conn)
	const keys, size = 12, 1_000_000
	for i := range keys {
		_, err := kv.Put(s.context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%02d", i), Value: make([]byte, size)})
		must(t, err)
	}
	got, err := kv.Range(s.context(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	must(t, err)
	if len(got.Kvs) != keys || proto.Size(got) < keys*size {
		t.Errorf("%d keys, %d bytes", len(got.Kvs), proto.Size(got))
	}
	stream, err := kv.RangeStream(s.context(), &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	must(t, err)
	whole, chunks := &pb.RangeResponse{}, 0
	for {
		chunk, err := stream.Recv()
		if err != nil {
			break
		}
		chunks++
		proto.Merge(whole, chunk.RangeResponse)
	}
	if chunks < 2 || !proto.Equal(whole.Kvs[keys-1], got.Kvs[keys-1]) || len(whole.Kvs) != keys || whole.Count != keys || whole.Header.Revision != 13 {
		t.Errorf("%d chunks, %d keys, count %d, header %v", chunks, len(whole.Kvs), whole.Count, whole.Header)
	}
}

// TestPings: a client that pings much too often is sent away by name. All pings
// leave with one write: the server hangs up at the fourth, and a later write
// would find nobody.
func TestPings(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", s.address)
	must(t, err)
	defer conn.Close()
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&sent, conn)
	must(t, framer.WriteSettings())
	for range 10 {
		must(t, framer.WritePing(false, [8]byte{1}))
	}
	_, err = conn.Write(sent.Bytes())
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		if goAway, ok := frame.(*http2.GoAwayFrame); ok {
			if goAway.ErrCode != http2.ErrCodeEnhanceYourCalm || string(goAway.DebugData()) != "too_many_pings" {
				t.Errorf("GOAWAY %v %q", goAway.ErrCode, goAway.DebugData())
			}
			return
		}
	}
}
