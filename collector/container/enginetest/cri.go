package enginetest

import (
	"maps"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a message of the Container Runtime Interface, runtime.v1, of which
// so little is needed that its generated code is not worth its modules. Fields
// are written in ascending order by those who build one.
type message []byte

func (m message) text(field protowire.Number, v string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), v)
}

func (m message) number(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

func (m message) message(field protowire.Number, v message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), v)
}

// texts appends a map<string, string>.
func (m message) texts(field protowire.Number, v map[string]string) message {
	for _, key := range slices.Sorted(maps.Keys(v)) {
		m = m.message(field, message{}.text(1, key).text(2, v[key]))
	}
	return m
}

// wire hands messages to gRPC as they are.
type wire struct{}

func (wire) Marshal(v any) ([]byte, error)      { return *v.(*message), nil }
func (wire) Unmarshal(data []byte, v any) error { *v.(*message) = slices.Clone(data); return nil }
func (wire) Name() string                       { return "proto" }

// cri is a client of the Container Runtime Interface.
type cri struct{ conn *grpc.ClientConn }

func dialCRI(t testing.TB, socket string) *cri {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &cri{conn}
}

// call calls a method of the RuntimeService and gives the texts of its answer by
// their fields.
func (c *cri) call(t testing.TB, method string, request message) map[protowire.Number]string {
	t.Helper()
	ctx, cancel := soon()
	defer cancel()
	var answer message
	if err := c.conn.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, &request, &answer, grpc.ForceCodec(wire{})); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	found := map[protowire.Number]string{}
	for len(answer) > 0 {
		field, kind, n := protowire.ConsumeTag(answer)
		if n < 0 {
			t.Fatalf("%s: %v", method, protowire.ParseError(n))
		}
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(answer[n:])
			found[field] = string(v)
		}
		m := protowire.ConsumeFieldValue(field, kind, answer[n:])
		if m < 0 {
			t.Fatalf("%s: %v", method, protowire.ParseError(m))
		}
		answer = answer[n+m:]
	}
	return found
}
