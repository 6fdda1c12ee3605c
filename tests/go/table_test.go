package contract

import (
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// step is one row of a table: a call and the answer it must give.
type step struct {
	name string // what the row judges; empty for rows that prepare
	call string // the RPC's name
	req  string // the request in protobuf text form
	want string // the answer as show writes it; * stands for any word
	only string // the one server ("etcd" or "ringbolt") for which the row is meant
}

// check runs the rows in order against one server.
func check(t *testing.T, s *server, steps []step) {
	t.Helper()
	for i, row := range steps {
		if row.only != "" && row.only != judge {
			continue
		}
		got := s.call(row.call, row.req)
		if want, ok := unbuilt(row.call); ok {
			row.want = want
		}
		if !matches(got, row.want) {
			t.Errorf("row %d: %s\n%s %.500s\n got %.1500s\nwant %.1500s", i, row.name, row.call, row.req, got, row.want)
		}
	}
}

// matches compares word by word; a * in want stands for the rest of a word.
func matches(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(g) != len(w) {
		return false
	}
	for i := range w {
		head, _, wild := strings.Cut(w[i], "*")
		if g[i] != w[i] && !(wild && strings.HasPrefix(g[i], head)) {
			return false
		}
	}
	return true
}

// methods holds every RPC under its bare name.
var methods = func() map[string]protoreflect.MethodDescriptor {
	found := map[string]protoreflect.MethodDescriptor{}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto,
	} {
		for i := range file.Services().Len() {
			all := file.Services().Get(i).Methods()
			for j := range all.Len() {
				found[string(all.Get(j).Name())] = all.Get(j)
			}
		}
	}
	return found
}()

// call makes one call and writes its answer or error down. A server stream is
// read to its end, of a bidirectional one the first answer is taken.
func (s *server) call(name, text string) string {
	s.t.Helper()
	method, ok := methods[name]
	if !ok {
		s.t.Fatalf("no RPC is called %s", name)
	}
	request := message(s.t, method.Input())
	if err := prototext.Unmarshal([]byte(text), request); err != nil {
		s.t.Fatalf("%s %s: %v", name, text, err)
	}
	full := path.Join("/", string(method.Parent().FullName()), name)
	if !method.IsStreamingServer() {
		answer := message(s.t, method.Output())
		return s.outcome(answer, s.conn.Invoke(s.context(), full, request, answer))
	}

	stream, err := s.conn.NewStream(s.context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, full)
	must(s.t, err)
	must(s.t, stream.SendMsg(request))
	must(s.t, stream.CloseSend())
	var answers []string
	for {
		answer := message(s.t, method.Output())
		err := stream.RecvMsg(answer)
		if err == io.EOF {
			return strings.Join(answers, " | ")
		}
		answers = append(answers, s.outcome(answer, err))
		if err != nil {
			return strings.Join(answers, " | ")
		}
	}
}

func message(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	must(t, err)
	return kind.New().Interface()
}

func (s *server) outcome(answer proto.Message, err error) string {
	if err != nil {
		return problem(err)
	}
	return s.show(answer)
}

// problem writes a gRPC error as its code and text.
func problem(err error) string {
	return status.Code(err).String() + ": " + status.Convert(err).Message()
}

// show writes a message on one line, fields in the order of their numbers,
// those at zero left out:
//
//	@5            a header that is complete, at revision 5
//	~5 and ~      a header with a revision only, and an empty one
//	a=x/2.4.3     a key-value: key, value, create and mod revision, version
//	a=x/2.4.3L7   the same on lease 7
func (s *server) show(m proto.Message) string {
	switch v := m.(type) {
	case *pb.ResponseHeader:
		return s.showHeader(v)
	case *mvccpb.KeyValue:
		return showKeyValue(v)
	case *pb.RangeStreamResponse:
		return s.show(v.RangeResponse)
	case *mvccpb.Event:
		text := v.Type.String() + " " + showKeyValue(v.Kv)
		if v.PrevKv != nil {
			text += " was " + showKeyValue(v.PrevKv)
		}
		return text
	}
	r := m.ProtoReflect()
	var words []string
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !r.Has(field) {
			continue
		}
		name, value := string(field.Name()), r.Get(field)
		switch {
		case field.IsList():
			var items []string
			for j := range value.List().Len() {
				items = append(items, s.showValue(field, value.List().Get(j)))
			}
			separator := " "
			if field.Message() != nil && field.Message().FullName() != "mvccpb.KeyValue" {
				separator = "; "
			}
			words = append(words, name+"=["+strings.Join(items, separator)+"]")
		case name == "header":
			words = append(words, s.showValue(field, value))
		case field.ContainingOneof() != nil:
			words = append(words, strings.TrimPrefix(name, "response_")+"("+s.showValue(field, value)+")")
		case field.Kind() == protoreflect.BoolKind:
			words = append(words, name)
		default:
			words = append(words, name+"="+s.showValue(field, value))
		}
	}
	return strings.Join(words, " ")
}

func (s *server) showValue(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return s.show(value.Message().Interface())
	case protoreflect.BytesKind:
		return showBytes(value.Bytes())
	case protoreflect.EnumKind:
		return string(field.Enum().Values().ByNumber(value.Enum()).Name())
	default:
		return value.String()
	}
}

func (s *server) showHeader(h *pb.ResponseHeader) string {
	switch {
	case proto.Size(h) == 0:
		return "~"
	case h.ClusterId == 0 && h.MemberId == 0 && h.RaftTerm == 0:
		return fmt.Sprintf("~%d", h.Revision)
	case h.ClusterId != s.header.ClusterId || h.MemberId != s.header.MemberId || h.RaftTerm < s.header.RaftTerm:
		return fmt.Sprintf("strange-header(%v)", h)
	}
	return fmt.Sprintf("@%d", h.Revision)
}

func showKeyValue(kv *mvccpb.KeyValue) string {
	text := fmt.Sprintf("%s=%s/%d.%d.%d", showBytes(kv.Key), showBytes(kv.Value),
		kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		text += "L" + strconv.FormatInt(kv.Lease, 10)
	}
	return text
}

// showBytes writes short text as it is and long values by their length.
func showBytes(value []byte) string {
	if len(value) > 100 {
		return fmt.Sprintf("<%d>", len(value))
	}
	quoted := strconv.Quote(string(value))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], " ", "_")
}
