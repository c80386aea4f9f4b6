package http2

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

func TestRecordedCalls(t *testing.T) {
	client, server := record(t, mixed(t))
	r := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		name  string
		exact bool // nothing is missing
		shape func([]piece) []protocol.Piece
	}{
		{"whole", true, whole},
		{"bytes", true, func(p []piece) []protocol.Piece { return split(p, r, 1) }},
		{"small", true, func(p []piece) []protocol.Piece { return split(p, r, 20) }},
		{"large", true, func(p []piece) []protocol.Piece { return split(p, r, 3000) }},
		{"heads", false, func(p []piece) []protocol.Piece { return head(p, 2000, 0) }},
		{"heads and tails", false, func(p []piece) []protocol.Piece { return head(p, 4096, 32) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for side, pieces := range [][]piece{client, server} {
				got, p := replay(t, tc.shape(pieces), side == 1)
				requireRight(t, got)
				if tc.exact {
					require.Zero(t, p.Lost())
					require.Equal(t, wantMixed(), got)
				}
			}
		})
	}
}

// requireRight wants that what is told of a request is right, as far as it is
// told.
func requireRight(t *testing.T, got map[string]int) {
	t.Helper()
	for name := range got {
		operation, status, _ := strings.Cut(name, " ")
		switch operation {
		case "grpc.testing.TestService/EmptyCall", "grpc.testing.TestService/FullDuplexCall":
			require.Contains(t, []string{"OK", "", "UNAVAILABLE", "CANCELLED"}, status, name)
		case "grpc.testing.TestService/UnaryCall":
			require.Contains(t, []string{"OK", "NOT_FOUND", "", "UNAVAILABLE", "CANCELLED"}, status, name)
		case "grpc.testing.TestService/UnimplementedCall":
			require.Contains(t, []string{"UNIMPLEMENTED", "", "UNAVAILABLE", "CANCELLED"}, status, name)
		case "/_OTHER", "POST", "_OTHER": // not known
		default:
			t.Fatalf("got a request that was not sent: %q", name)
		}
	}
}

// A gap inside DATA costs nothing.
func TestGapInData(t *testing.T) {
	client, server := record(t, func(ctx context.Context, c testgrpc.TestServiceClient) {
		for range 10 {
			_, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 60_000, Payload: &testgrpc.Payload{Body: make([]byte, 50_000)}})
			require.NoError(t, err)
		}
	})
	for i, pieces := range [][]piece{client, server} {
		var shaped []protocol.Piece
		for _, p := range whole(pieces) {
			shaped = append(shaped, hollow(p)...)
		}
		missed := 0
		for _, p := range shaped {
			missed += p.Missed
		}
		require.Greater(t, missed, 500_000)
		got, p := replay(t, shaped, i == 1)
		require.Zero(t, p.Lost())
		require.Equal(t, map[string]int{"grpc.testing.TestService/UnaryCall OK": 10}, got)
	}
}

// hollow takes long runs of zeros, which are payload here, out of a piece.
func hollow(p protocol.Piece) (out []protocol.Piece) {
	for len(p.Data) > 0 {
		i := bytes.Index(p.Data, make([]byte, 1000))
		if i < 0 {
			break
		}
		n := 0
		for i+n < len(p.Data) && p.Data[i+n] == 0 {
			n++
		}
		n -= 100 // those before the next frame's header stay
		out = append(out, protocol.Piece{Direction: p.Direction, Seq: p.Seq, Data: p.Data[:i], Missed: n})
		p.Seq += uint32(i + n)
		p.Data = p.Data[i+n:]
	}
	return append(out, p)
}

// Whatever is missing, and wherever the connection is joined, what is told is
// right.
func TestGapsAndLateJoins(t *testing.T) {
	client, server := record(t, mixed(t))
	r := rand.New(rand.NewPCG(3, 4))
	for i, pieces := range [][]piece{client, server} {
		for range 200 {
			all := whole(pieces)[r.IntN(len(pieces)):]
			var shaped []protocol.Piece
			for _, p := range all {
				switch r.IntN(30) {
				case 0:
					n := r.IntN(len(p.Data) + 1)
					p.Data, p.Missed = p.Data[:n], len(p.Data)-n
				case 1:
					p.Data, p.Missed = nil, len(p.Data)
				case 2:
					n := r.IntN(len(p.Data) + 1)
					m := n + r.IntN(len(p.Data)-n+1)
					p.Data, p.Missed, p.Tail = p.Data[:n], m-n, p.Data[m:]
				}
				shaped = append(shaped, p)
			}
			got, _ := replay(t, shaped, i == 1)
			requireRight(t, got)
		}
	}
	// Joined in the middle, without gaps: names that are spelt out come back.
	got, p := replay(t, whole(server)[len(server)/2:], true)
	require.Zero(t, p.Lost())
	require.Greater(t, got["POST  200"]+got["/_OTHER "]+got["/_OTHER OK"], 30, "%v", got)
}

func TestResponseReadBeforeRequestWritten(t *testing.T) {
	client, _ := record(t, func(ctx context.Context, c testgrpc.TestServiceClient) {
		for range 50 {
			_, err := c.EmptyCall(ctx, &testgrpc.Empty{})
			require.NoError(t, err)
		}
	})
	pieces := whole(client)
	swapped := 0
	for i := 10; i+1 < len(pieces); i++ {
		if pieces[i].Direction == protocol.Sent && pieces[i+1].Direction == protocol.Received {
			pieces[i], pieces[i+1] = pieces[i+1], pieces[i]
			i++
			swapped++
		}
	}
	require.Greater(t, swapped, 20)
	got, _ := replay(t, pieces, false)
	require.Equal(t, map[string]int{"grpc.testing.TestService/EmptyCall OK": 50}, got)
}

// wire writes frames by hand.
type wire struct {
	buf    bytes.Buffer
	framer *xhttp2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
}

func newWire() *wire {
	w := new(wire)
	w.framer = xhttp2.NewFramer(&w.buf, nil)
	w.enc = hpack.NewEncoder(&w.block)
	return w
}

func (w *wire) fields(t *testing.T, fields ...string) []byte {
	t.Helper()
	w.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		require.NoError(t, w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(w.block.Bytes())
}

func (w *wire) headers(t *testing.T, id uint32, end bool, fields ...string) {
	t.Helper()
	require.NoError(t, w.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: w.fields(t, fields...), EndStream: end, EndHeaders: true}))
}

func (w *wire) take() []byte {
	b := bytes.Clone(w.buf.Bytes())
	w.buf.Reset()
	return b
}

func TestFrames(t *testing.T) {
	rpc := []string{":method", "POST", ":path", "/a.B/C", "content-type", "application/grpc+proto"}
	get := []string{":method", "GET", ":path", "/x?y=z"}
	ok := []string{":status", "200", "content-type", "application/grpc"}
	for _, tc := range []struct {
		name  string
		drive func(t *testing.T, client, server *wire)
		want  map[string]int // at the server
	}{
		{"trailers only", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, rpc...)
			s.headers(t, 1, true, append(ok, "grpc-status", "5")...)
		}, map[string]int{"a.B/C NOT_FOUND": 1}},
		{"no grpc-status", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, rpc...)
			s.headers(t, 1, false, ok...)
			require.NoError(t, s.framer.WriteData(1, true, []byte("x")))
			c.headers(t, 3, true, rpc...)
			s.headers(t, 3, true, ":status", "503")
			c.headers(t, 5, true, rpc...)
			s.headers(t, 5, true, append(ok, "grpc-status", "99")...)
		}, map[string]int{"a.B/C UNKNOWN": 2, "a.B/C UNAVAILABLE": 1}},
		{"continuation, padding, priority", func(t *testing.T, c, s *wire) {
			block := c.fields(t, append(get, "x-long", strings.Repeat("v", 200))...)
			require.NoError(t, c.framer.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: 1, BlockFragment: block[:3], PadLength: 7, Priority: xhttp2.PriorityParam{StreamDep: 0, Weight: 3, Exclusive: true},
			}))
			require.NoError(t, c.framer.WriteContinuation(1, false, block[3:40]))
			require.NoError(t, c.framer.WriteContinuation(1, true, block[40:]))
			require.NoError(t, c.framer.WriteDataPadded(1, true, []byte("body"), make([]byte, 9)))
			require.NoError(t, c.framer.WritePriority(1, xhttp2.PriorityParam{Weight: 1}))
			s.headers(t, 1, false, ":status", "103")
			s.headers(t, 1, false, ":status", "404")
			require.NoError(t, s.framer.WriteDataPadded(1, true, []byte("no"), make([]byte, 200)))
		}, map[string]int{"GET /x 404": 1}},
		{"resets", func(t *testing.T, c, s *wire) {
			for i, code := range []xhttp2.ErrCode{xhttp2.ErrCodeCancel, xhttp2.ErrCodeRefusedStream, xhttp2.ErrCodeEnhanceYourCalm, xhttp2.ErrCodeInternal} {
				c.headers(t, uint32(2*i+1), true, rpc...)
				require.NoError(t, s.framer.WriteRSTStream(uint32(2*i+1), code))
			}
			c.headers(t, 9, true, get...)
			require.NoError(t, c.framer.WriteRSTStream(9, xhttp2.ErrCodeCancel))
		}, map[string]int{"a.B/C CANCELLED": 1, "a.B/C UNAVAILABLE": 1, "a.B/C RESOURCE_EXHAUSTED": 1, "a.B/C INTERNAL": 1, "GET /x ": 1}},
		{"goaway", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, get...)
			c.headers(t, 3, true, get...)
			require.NoError(t, s.framer.WriteGoAway(1, xhttp2.ErrCodeNo, []byte("bye")))
			s.headers(t, 1, true, ":status", "204")
		}, map[string]int{"GET /x 204": 1}},
		{"closed under way", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, get...)
			c.headers(t, 3, false, rpc...)
			s.headers(t, 3, false, ok...)
		}, map[string]int{"GET /x ": 1, "a.B/C CANCELLED": 1}},
		{"request trailers", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, false, get...)
			require.NoError(t, c.framer.WriteData(1, false, []byte("x")))
			s.headers(t, 1, false, ":status", "200")
			c.headers(t, 1, true, "x-sum", "1")
			require.NoError(t, s.framer.WriteData(1, true, nil))
			c.headers(t, 3, true, get...)
			s.headers(t, 3, true, ":status", "500")
		}, map[string]int{"GET /x 200": 1, "GET /x 500": 1}},
		{"push", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, get...)
			require.NoError(t, s.framer.WritePushPromise(xhttp2.PushPromiseParam{
				StreamID: 1, PromiseID: 2, BlockFragment: s.fields(t, ":method", "GET", ":path", "/pushed", "x-new", "1"), EndHeaders: true,
			}))
			s.headers(t, 1, true, ":status", "200", "x-new", "1")
			s.headers(t, 2, true, ":status", "200")
		}, map[string]int{"GET /x 200": 1}},
		{"dynamic table made small and large", func(t *testing.T, c, s *wire) {
			for i, size := range []uint32{4096, 0, 100, 4096, 64} {
				c.enc.SetMaxDynamicTableSize(size)
				for j := range 4 {
					id := uint32(8*i + 2*j + 1)
					c.headers(t, id, true, append(get, "x-a", fmt.Sprint(j))...)
					s.headers(t, id, true, ":status", "299")
				}
			}
		}, map[string]int{"GET /x 299": 20}},
		{"unusual method", func(t *testing.T, c, s *wire) {
			c.headers(t, 1, true, ":method", "PURGE", ":path", "/")
			s.headers(t, 1, true, ":status", "200")
		}, map[string]int{"_OTHER / 200": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, s := newWire(), newWire()
			c.buf.WriteString(preface)
			require.NoError(t, c.framer.WriteSettings())
			require.NoError(t, s.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 100}))
			tc.drive(t, c, s)
			pieces := []piece{{protocol.Received, 0, c.take()}, {protocol.Sent, 0, s.take()}}
			got, p := replay(t, whole(pieces), true)
			require.Zero(t, p.Lost())
			require.Equal(t, tc.want, got)
			got, _ = replay(t, split(pieces, rand.New(rand.NewPCG(5, 6)), 1), true)
			require.Equal(t, tc.want, got)
			require.Empty(t, p.streams)
		})
	}
}

func TestBodies(t *testing.T) {
	c, s := newWire(), newWire()
	c.buf.WriteString(preface)
	c.headers(t, 1, false, ":method", "PUT", ":path", "/")
	require.NoError(t, c.framer.WriteDataPadded(1, false, make([]byte, 1000), make([]byte, 100)))
	require.NoError(t, c.framer.WriteData(1, true, make([]byte, 234)))
	s.headers(t, 1, false, ":status", "200")
	require.NoError(t, s.framer.WriteData(1, true, make([]byte, 5000)))
	p := New()
	n := 0
	done := func(r *protocol.Request) {
		n++
		require.EqualValues(t, 1234, r.RequestBytes)
		require.EqualValues(t, 5000, r.ResponseBytes)
		require.EqualValues(t, 100, r.StartNanos)
		require.EqualValues(t, 400, r.EndNanos)
		require.EqualValues(t, 7+len(preface), r.Seq)
	}
	p.Take(&protocol.Piece{Direction: protocol.Received, Data: c.take(), Seq: 7, ReadyNanos: 100, AtNanos: 200}, done)
	p.Take(&protocol.Piece{Direction: protocol.Sent, Data: s.take(), ReadyNanos: 300, AtNanos: 400}, done)
	require.Equal(t, 1, n)
}

// Memory is bounded, whatever a peer does.
func TestBounds(t *testing.T) {
	c := newWire()
	c.buf.WriteString(preface)
	for i := range 3 * maxStreams {
		c.headers(t, uint32(2*i+1), true, ":method", "GET", ":path", "/"+strings.Repeat("p", 3000))
	}
	p := New()
	p.Take(&protocol.Piece{Data: c.take()}, func(*protocol.Request) {})
	require.Len(t, p.streams, maxStreams)
	require.Equal(t, 2*maxStreams, p.Lost())
	for _, s := range p.streams {
		require.LessOrEqual(t, len(s.path), maxPath)
	}
	// a header block that does not end
	block := c.fields(t, ":method", "GET", "x-long", strings.Repeat("v", 1000))
	require.NoError(t, c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 99999, BlockFragment: block}))
	for range 200 {
		require.NoError(t, c.framer.WriteContinuation(99999, false, make([]byte, 16000)))
	}
	p.Take(&protocol.Piece{Data: c.take()}, func(*protocol.Request) {})
	require.LessOrEqual(t, cap(p.half[0].block), 2*maxBlock)
}

// In steady state a request allocates nothing.
func TestAllocations(t *testing.T) {
	_, server := record(t, func(ctx context.Context, c testgrpc.TestServiceClient) {
		for range 200 {
			_, err := c.EmptyCall(ctx, &testgrpc.Empty{})
			require.NoError(t, err)
		}
	})
	pieces := whole(server)
	p := New()
	n := 0
	done := func(*protocol.Request) { n++ }
	i := 0
	for ; n < 20; i++ {
		p.Take(&pieces[i], done)
	}
	rest := pieces[i : slices.IndexFunc(pieces[i:], func(q protocol.Piece) bool { return q.Seq > pieces[len(pieces)-20].Seq && q.Direction == protocol.Sent })+i]
	require.Greater(t, len(rest), 100)
	j := 0
	allocs := testing.AllocsPerRun(len(rest)-1, func() {
		p.Take(&rest[j%len(rest)], done)
		j++
	})
	require.Zero(t, allocs)
	require.Greater(t, n, 100)
}

// What the usual encoder writes is read as it was meant.
func TestDecoderAgainstEncoder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	var d decoder
	var table dynamicTable
	values := map[name][]string{
		methodName: {"GET", "POST", "PATCH"}, pathName: {"/", "/a", "/long/" + strings.Repeat("ü", 50)},
		statusName: {"200", "404", "503"}, grpcStatusName: {"0", "5"}, traceparentName: {trace},
	}
	names := map[name]string{methodName: ":method", pathName: ":path", statusName: ":status", grpcStatusName: "grpc-status", traceparentName: "traceparent"}
	keys := slices.Sorted(maps.Keys(names))
	for range 5000 {
		b.Reset()
		if r.IntN(50) == 0 {
			enc.SetMaxDynamicTableSize(uint32(r.IntN(4096)))
		}
		var want, got []string
		for range r.IntN(6) {
			n := keys[r.IntN(len(keys))]
			v := values[n][r.IntN(len(values[n]))]
			require.NoError(t, enc.WriteField(hpack.HeaderField{Name: names[n], Value: v, Sensitive: r.IntN(5) == 0}))
			want = append(want, fmt.Sprint(n, v))
			require.NoError(t, enc.WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", r.IntN(30)), Value: fmt.Sprint(r.IntN(30))}))
		}
		require.True(t, d.decode(&table, b.Bytes(), func(n name, v []byte, known bool) {
			require.True(t, known)
			if n != otherName {
				got = append(got, fmt.Sprint(n, string(v)))
			}
		}))
		require.Equal(t, want, got)
	}
}

// A decoder that joins late knows nothing wrong.
func TestDecoderJoinsLate(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 50 {
		var b bytes.Buffer
		enc := hpack.NewEncoder(&b)
		var d decoder
		var table dynamicTable
		known := 0
		for i := range 300 {
			b.Reset()
			path := fmt.Sprint("/", r.IntN(100))
			require.NoError(t, enc.WriteField(hpack.HeaderField{Name: ":path", Value: path}))
			if i < 100 {
				continue
			}
			require.True(t, d.decode(&table, b.Bytes(), func(n name, v []byte, ok bool) {
				if ok {
					known++
					require.Equal(t, path, string(v))
				}
			}))
		}
		require.Positive(t, known)
	}
}

func FuzzParser(f *testing.F) {
	c, s := newWire(), newWire()
	var t testing.T
	c.buf.WriteString(preface)
	c.headers(&t, 1, true, ":method", "POST", ":path", "/a.B/C", "content-type", "application/grpc")
	s.headers(&t, 1, true, ":status", "200", "grpc-status", "5")
	f.Add(c.take(), s.take(), uint16(3), uint16(0))
	f.Add([]byte(preface), []byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1}, uint16(1), uint16(700))
	f.Fuzz(func(t *testing.T, received, sent []byte, step, missed uint16) {
		p := New()
		done := func(r *protocol.Request) {
			if r.Kind != protocol.HTTP2 || r.Operation == "" || r.StartNanos > r.EndNanos {
				t.Fatalf("got %+v", r)
			}
		}
		n := int(step)%64 + 1
		for i := int64(0); len(received)+len(sent) > 0; i++ {
			for d, b := range []*[]byte{&received, &sent} {
				k := min(n, len(*b))
				piece := protocol.Piece{Direction: protocol.Direction(d), Data: (*b)[:k], ReadyNanos: i, AtNanos: i}
				if i%5 == 4 {
					piece.Missed = int(missed)
				}
				p.Take(&piece, done)
				*b = (*b)[k:]
			}
		}
		p.Close(1<<40, done)
		if len(p.streams) != 0 || p.early != 0 {
			t.Fatalf("%d streams and %d early ones are left", len(p.streams), p.early)
		}
	})
}
