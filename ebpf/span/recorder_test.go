package span

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// opener has requests without a response.
type opener struct {
	mu    sync.Mutex
	calls []*feature.Call
	lost  uint64
}

func (o *opener) Open(visit func(*feature.Call)) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.calls {
		visit(c)
	}
	return o.lost, nil
}

func (r *Recorder) holds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []*collectortrace.ExportTraceServiceRequest
		var fail atomic.Bool
		c := DefaultConfig()
		c.Ratio, c.Buffer = 1, 64
		r := New(Options{
			Config: c, Resolver: identity.New(t.TempDir(), nil), Logger: slog.New(slog.DiscardHandler),
			Write: func(_ context.Context, payload []byte) error {
				if fail.Load() {
					return errors.New("no")
				}
				req := new(collectortrace.ExportTraceServiceRequest)
				require.NoError(t, proto.Unmarshal(payload, req))
				got = append(got, req)
				return nil
			},
		})
		o := &opener{}
		r.Watch(o)
		reg := prometheus.NewPedanticRegistry()
		require.NoError(t, reg.Register(r))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()

		one := call(1, false, 1, 10, 40, "").call
		one.Attributes = []string{"server.port", "80", "url.full", "http://x"}
		two := call(2, true, 1, 20, 30, "").call
		two.Failed, two.Name = true, "GET"
		r.Add(&one)
		one.Attributes[3] = "changed" // Add has copied it
		time.Sleep(1500 * time.Millisecond)
		r.Add(&two)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Empty(t, got)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.Len(t, got, 2)
		client, server := got[0].ResourceSpans[0].ScopeSpans[0].Spans[0], got[1].ResourceSpans[0].ScopeSpans[0].Spans[0]
		require.Equal(t, client.SpanId, server.ParentSpanId)
		require.Equal(t, client.TraceId, server.TraceId)
		require.Equal(t, "http://x", attr(client, "url.full"))
		require.EqualValues(t, 80, client.Attributes[0].Value.GetIntValue())
		require.EqualValues(t, 2, server.Status.Code)
		require.Equal(t, scopeName, got[0].ResourceSpans[0].ScopeSpans[0].Scope.Name)

		// What finds no room is counted, and room comes back.
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range 100 {
			c := call(3, true, uint16(i), 20, 30, "").call
			r.Add(&c)
		}
		require.NoError(t, testutil.CollectAndCompare(r, lostText("36", "0"), "vedette_ebpf_span_lost_total"))
		require.True(t, r.Full(), "which counts the call that is not added")
		require.NoError(t, testutil.CollectAndCompare(r, lostText("37", "0"), "vedette_ebpf_span_lost_total"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.Zero(t, r.holds())
		require.False(t, r.Full())

		// What is not written is counted too. What is left is written at the end.
		fail.Store(true)
		r.Add(&two)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.NoError(t, testutil.CollectAndCompare(r, lostText("37", "1"), "vedette_ebpf_span_lost_total"))
		fail.Store(false)
		before := len(got)
		r.Add(&two)
		cancel()
		require.NoError(t, <-done)
		require.Len(t, got, before+1)
	})
}

// A request that is open is somebody's cause, and what it caused is remembered
// as long as it may cause more.
func TestRecorderRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Ratio = 1
		r := New(Options{
			Config: c, Resolver: identity.New(t.TempDir(), nil), Logger: slog.New(slog.DiscardHandler),
			Write: func(context.Context, []byte) error { return nil },
		})
		late := call(2, false, 2, 30, 0, tp(spanX, "01")).call
		o := &opener{calls: []*feature.Call{&late}}
		r.Watch(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		cause := call(2, true, 1, 20, 80, tp(spanX, "01")).call
		r.Add(&cause)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, r.holds())
		o.mu.Lock()
		o.calls = nil
		o.mu.Unlock()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Zero(t, r.holds())
		cancel()
		require.NoError(t, <-done)
	})
}

// A parent that is left out because something was lost is counted.
func TestRecorderDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Ratio = 1
		r := New(Options{
			Config: c, Resolver: identity.New(t.TempDir(), nil), Logger: slog.New(slog.DiscardHandler),
			Write: func(context.Context, []byte) error { return nil },
		})
		o := &opener{}
		r.Watch(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		first := call(2, true, 1, 20, 80, tp(spanX, "01")).call
		r.Add(&first)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.Zero(t, testutil.ToFloat64(r.doubted))
		o.mu.Lock()
		o.lost = 1
		o.mu.Unlock()
		time.Sleep(2 * time.Second)
		second := call(3, true, 2, 20, 80, tp(spanY, "01")).call
		r.Add(&second)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, testutil.ToFloat64(r.doubted))
		cancel()
		require.NoError(t, <-done)
	})
}

func lostText(full, write string) *strings.Reader {
	return strings.NewReader(`
# HELP vedette_ebpf_span_lost_total Sampled requests that have become no span, by reason.
# TYPE vedette_ebpf_span_lost_total counter
vedette_ebpf_span_lost_total{reason="buffer_full"} ` + full + `
vedette_ebpf_span_lost_total{reason="write"} ` + write + "\n")
}
